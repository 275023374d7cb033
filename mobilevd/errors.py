"""The exception for a user's mistake: the command line prints its text alone, without a traceback."""


class UserError(Exception):
    """A mistake that the user can correct.

    The text is one clear line: what is wrong, where (file, key, line), and what would be right.
    """


class ToldByAnother(UserError):
    """An error that another process of the same run has met, and tells: this one ends with it, and says nothing."""
