"""The one exception for what a user can mend, and what others came of."""

from collections.abc import Iterator


class UserError(Exception):
    """A mistake or a circumstance the user can change, told in one or two lines.

    The message says what is wrong, where, what was expected and given, and what to do.
    `train.py` and `python -m cifar_exp` print it without a traceback and exit with status 1.
    """

    def __init__(self, message: str) -> None:
        # a file name in it may hold bytes that no log and no terminal takes as text
        super().__init__(message.encode(errors="backslashreplace").decode())


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the one it came of, and so on."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
