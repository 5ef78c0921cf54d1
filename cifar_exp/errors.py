"""The one exception for what a user can mend, and words for others."""

import traceback
from collections.abc import Iterator
from pathlib import Path


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


def summarize(error: Exception) -> str:
    """Return in a line what an error of the user's own code says, and where in it."""
    words = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename}, line {frame.lineno}" for frame in frames if _is_the_users(frame)]
    return f"{type(error).__name__}: {words}" + (f" ({places[-1]})" if places else "")


def _is_the_users(frame: traceback.FrameSummary) -> bool:
    file, python = Path(frame.filename), Path(traceback.__file__)
    package = Path(__file__).parent
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return file.is_file() and not installed and not {package, python.parent} & set(file.parents)
