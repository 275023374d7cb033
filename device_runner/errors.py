"""The exceptions of this package; the command line prints their text alone, without a traceback."""


class RunnerError(Exception):
    """A bundle, a build or a measurement that cannot be trusted.

    The text is one clear line: what failed, where (file, key, device), and what would be right.
    """


class DeviceGone(RunnerError):
    """A device that no longer answers: nothing further can be measured on it in this call."""
