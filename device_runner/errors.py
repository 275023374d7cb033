"""The one exception of this package: the command line prints its text alone, without a traceback."""


class RunnerError(Exception):
    """A bundle, a build or a measurement that cannot be trusted.

    The text is one clear line: what failed, where (file, key, device), and what would be right.
    """
