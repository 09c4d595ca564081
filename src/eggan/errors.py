"""The one exception that a user's mistake raises: caught once in the command line and once in the page."""


class EgganError(Exception):
    """A fact about the user's input in one sentence: which file or value, and what to do."""
