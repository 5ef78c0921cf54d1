"""Text for the terminal, and standard streams that may be closed at any time.

Results are on disk, so a closed terminal or pipe does not end a command.
"""

import os
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, TextIO, cast

USUAL_COLUMNS = 80  # if the width is unknown
_SECONDS_TO_PRINT = 10
# Control characters, also those that change the direction of text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_GAP = "  "  # between the columns of a table
_MIN_CELL_WIDTH = 8
_LONG_WORD = 12  # longer words, such as paths, are broken before other columns are narrowed


def printable(text: str) -> str:
    """Return text without what commands a terminal, which names from elsewhere may hold."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(name: str) -> str:
    """Return a name, which may contain line breaks or invalid UTF-8, as one line of text."""
    text = name.encode(errors="backslashreplace").decode()
    return text.replace("\n", "\N{REPLACEMENT CHARACTER}")


def columns() -> int | None:
    """Return the width of the terminal; None if standard output is not a terminal."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    return None


def wrapped(text: str) -> str:
    """Wrap text at spaces to the width of the terminal."""
    width = columns()
    if width is None:
        return text
    return textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def wrapped_command(command: str) -> str:
    """Wrap a shell command to the width of the terminal, so that it can still be copied."""
    width = columns()
    if width is None or len(command) <= width:
        return command
    lines = [""]
    for word in map(shlex.quote, shlex.split(command)):
        if lines[-1] and len(f"{lines[-1]} {word} \\") > width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def table(rows: Sequence[Sequence[object]], header: Sequence[str], width: int | None) -> str:
    """Format a table, with headers and cells wrapped to fit the width.

    Lines end after a space or an underscore, and within words only if that is not enough.

    Args:
        rows: the cells.
        header: the titles of the columns.
        width: number of characters per line; None for no limit.
    """
    from tabulate import tabulate

    text = tabulate(rows, header, disable_numparse=True)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = _widths(lines, width - len(_GAP) * (len(header) - 1))
    rule = _GAP.join("-" * column for column in widths)
    first, *others = (_wrapped_row(line, widths) for line in lines)
    return "\n".join([first, rule, *others])


def _widths(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of the columns of a table, the first line of which is its header."""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, [*title.split(), *cells])) for title, *cells in columns]
    words = [max(map(len, _breakable(" ".join(column)).split()), default=0) for column in columns]
    for least in ([min(word, _LONG_WORD) for word in words], [_MIN_CELL_WIDTH] * len(words)):
        while sum(widths) > width:
            shrinkable = [now * (now > end) for now, end in zip(widths, least, strict=True)]
            if not any(shrinkable):
                break
            widths[shrinkable.index(max(shrinkable))] -= 1
    return widths


def _breakable(text: str) -> str:
    return text.replace("_", "_ ")


def _wrapped_row(cells: Sequence[str], widths: Sequence[int]) -> str:
    pieces = [
        [cell] if len(cell) <= width else _wrapped_cell(cell, max(1, width))
        for cell, width in zip(cells, widths, strict=True)
    ]
    lines = [
        _GAP.join(piece.ljust(width) for piece, width in zip(line, widths, strict=True)).rstrip()
        for line in zip_longest(*pieces, fillvalue="")
    ]
    return "\n".join(lines)


def _wrapped_cell(cell: str, width: int) -> list[str]:
    if max(map(len, cell.split()), default=0) <= width:
        return textwrap.wrap(cell, width, break_on_hyphens=False)
    return [line.replace("_ ", "_") for line in textwrap.wrap(_breakable(cell), width)]


def is_first() -> bool:
    """Return whether this process prints for its run: with torchrun, the one with rank 0."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def print_error(text: str) -> None:
    """Print an error on standard error; with torchrun only the first process prints it."""
    if is_first():
        print(text, file=sys.stderr)
    else:  # torchrun ends all processes when one ends, so wait until the error is printed
        time.sleep(_SECONDS_TO_PRINT)


def keep_output(bars: bool = True) -> None:
    """Discard output that cannot be written. Call it once at the start of a process.

    Args:
        bars: whether progress bars may be shown. A worker process would draw over those of the
            sweep.
    """
    for number in (0, 1, 2):  # otherwise the next file opened would get a missing descriptor
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _fail_safe(sys.stdout, printable, bars)
    # progress bars on standard error need control characters
    sys.stderr = _fail_safe(sys.stderr, lambda text: text, bars)


def output_problem() -> str | None:
    """Return a line if standard output was discarded, except that of a reader such as `head`."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "write_error", None)
    if error is None or isinstance(error, BrokenPipeError):
        return None
    return f"standard output: cannot be written ({error.strerror}). The output is incomplete."


def _fail_safe(stream: TextIO | None, clean: Callable[[str], str], bars: bool) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    with suppress(AttributeError):  # a stream of a test
        stream.reconfigure(errors="replace")  # type: ignore[attr-defined]
    return cast(TextIO, _FailSafeStream(stream, clean, bars))


class _FailSafeStream:
    """A stream that discards output after the first error."""

    def __init__(self, stream: TextIO, clean: Callable[[str], str], bars: bool) -> None:
        self._stream = stream
        self._clean = clean
        self._bars = bars
        self.write_error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._bars and self._stream.isatty()

    def write(self, text: str) -> int:
        try:
            self._stream.write(self._clean(text))
        except OSError as error:
            self._discard(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        self.write_error = error
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self._stream.fileno())  # the stream's buffer is discarded as well
        os.close(devnull)
