"""Standard output and error, which may be closed, or a pipe or terminal that goes away.

What a command computes is on disk; that nobody reads along any more must not end it.
"""

import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, TextIO, cast

_SECONDS_TO_TELL = 10
# Control characters, also those that change the direction of text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_GAP = "  "  # between the columns of a table
_NARROWEST = 8  # columns that a table's cell keeps


def printable(text: str) -> str:
    """Return text without what commands a terminal, which names from elsewhere may hold."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(name: str) -> str:
    """Return a name, which may contain line breaks or invalid UTF-8, as one line of text."""
    text = name.encode(errors="backslashreplace").decode()
    return text.replace("\n", "\N{REPLACEMENT CHARACTER}")


def columns() -> int | None:
    """Return how many columns the terminal has; None where standard output is none."""
    with suppress(OSError, ValueError):
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    return None


def wrapped(text: str) -> str:
    """Return text with lines that break between words where the terminal would break them."""
    width = columns()
    if width is None:
        return text
    return textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def table(rows: Sequence[Sequence[object]], header: Sequence[str], width: int | None) -> str:
    """Return a table whose lines fit; where they do not, titles and then cells take more lines.

    Args:
        rows: the cells, shown as they are.
        header: the titles.
        width: columns that there are; None for as many as it takes.
    """
    from tabulate import tabulate

    text = tabulate(rows, header, disable_numparse=True)
    if width is None or max(map(len, text.splitlines())) <= width:
        return text
    columns = [[str(row[place]) for row in rows] for place in range(len(header))]
    widths = [
        max(map(len, [*title.split(), *cells]), default=0)
        for title, cells in zip(header, columns, strict=True)
    ]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    rule = _GAP.join("-" * width for width in widths)
    body = [_in_lines([str(cell) for cell in row], widths) for row in rows]
    return "\n".join([_in_lines(header, widths), rule, *body])


def _in_lines(cells: Sequence[str], widths: Sequence[int]) -> str:
    pieces = [textwrap.wrap(cell, max(1, width)) for cell, width in zip(cells, widths, strict=True)]
    lines = [
        _GAP.join(piece.ljust(width) for piece, width in zip(line, widths, strict=True)).rstrip()
        for line in zip_longest(*pieces, fillvalue="")
    ]
    return "\n".join(lines)


def is_first() -> bool:
    """Tell whether this process speaks for its run: with torchrun several have one together."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def tell(text: str) -> None:
    """Tell a mistake on standard error; of several processes the first does it for all."""
    if is_first():
        print(text, file=sys.stderr)
    else:  # once one has ended torchrun ends all, which must not be before it is told
        time.sleep(_SECONDS_TO_TELL)


def keep_output() -> None:
    """Let output that cannot be written be dropped, from now on; for the start of a program."""
    for number in (0, 1, 2):  # else the next file that is opened would take the place
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # bars of progress, which move the cursor, are on standard error
    sys.stdout, sys.stderr = _kept(sys.stdout, printable), _kept(sys.stderr, lambda text: text)


def _kept(stream: TextIO | None, shown: Callable[[str], str]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    with suppress(AttributeError):  # of a test's stream
        stream.reconfigure(errors="replace")  # type: ignore[attr-defined]
    return cast(TextIO, _Kept(stream, shown))


class _Kept:
    """A stream that writes to nowhere once it cannot be written. Args: shown: changes the text."""

    def __init__(self, stream: TextIO, shown: Callable[[str], str]) -> None:
        self._stream = stream
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(self._shown(text))
            return len(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # where the stream's buffer goes as well
        os.close(nowhere)
