"""The one exception of this package: the command line prints its text alone, without a traceback."""


class RunnerError(Exception):
    """A bundle, a build or a measurement that cannot be trusted.

    The text is one clear line: what failed, where (file, key, device), and what would be right.
    """


class DeviceGone(RunnerError):
    """A device that does not answer any more: nothing further can be measured on it in this call."""
