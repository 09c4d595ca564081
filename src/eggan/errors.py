"""The one exception that a user's mistake raises: caught once in the command line and once in the page."""


class EgganError(Exception):
    """A fact about the user's input in one sentence: which file or value, and what to do."""


def first_line(error: BaseException) -> str:
    """What a library's error says, to be quoted within a sentence."""
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
