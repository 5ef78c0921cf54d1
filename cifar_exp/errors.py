"""`UserError`, for mistakes that the user can correct, and helpers for other exceptions."""

import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

_SHOWN = 3  # names in a message


class UserError(Exception):
    """A mistake or a condition that the user can correct.

    The message has one or two lines: the setting or path, what is wrong, and what to do.
    `train.py` and `python -m cifar_exp` print it without a traceback and exit with status 1.
    """

    def __init__(self, message: str) -> None:
        # the name of a file may contain bytes that cannot be encoded in UTF-8
        super().__init__(message.encode(errors="backslashreplace").decode())


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the chain of its causes."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def import_problem(error: ImportError | SyntaxError) -> str:
    """Explain why code cannot be imported: its file and line, the problem, and what to do."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}. Correct this line."
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_file()]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    if isinstance(error, ModuleNotFoundError):
        advice = "Activate the environment of `pip install -e .`, or install the package"
    else:
        advice = "Correct this line, or install the package again"
    return f"{where}{error.msg}. {advice}."


def some(names: Sequence[str]) -> str:
    """Return the first three names, such as "a, b, c, ..."."""
    return ", ".join(names[:_SHOWN]) + ", ..." * (len(names) > _SHOWN)


def summarize(error: BaseException) -> str:
    """Return an error of custom code in one line: its type, message and last line of user code."""
    message = " ".join(str(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_user_code(f)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' * bool(message)}{message}{where}"


def _is_user_code(frame: traceback.FrameSummary) -> bool:
    file, python = Path(frame.filename), Path(traceback.__file__)
    package = Path(__file__).parent
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return file.is_file() and not installed and not {package, python.parent} & set(file.parents)
