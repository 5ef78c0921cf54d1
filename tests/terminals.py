"""A pseudo-terminal that shows the output of a command as a user sees it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

_ROWS = 200  # enough to avoid scrolling
ROOT = Path(__file__).parents[1]


class Terminal:
    """A pseudo-terminal. Args: columns: its width."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._master, self.device = pty.openpty()
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
        self._screen = pyte.Screen(columns, _ROWS)
        self._stream = pyte.ByteStream(self._screen)

    def lines(self) -> list[str]:
        """Return the lines on the screen, without trailing empty lines."""
        while select.select([self._master], [], [], 0)[0]:
            try:
                self._stream.feed(os.read(self._master, 65536))
            except OSError:  # no process has it open
                break
        shown = [line.rstrip() for line in self._screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def type(self, keys: str) -> None:
        """Type text; "\\x03" is Ctrl-C."""
        os.write(self._master, keys.encode())

    def echo(self, text: str) -> None:
        """Show text that the terminal writes itself, such as `^C`."""
        os.write(self.device, text.encode())

    def close(self) -> None:
        """Close both ends."""
        for end in (self._master, self.device):
            os.close(end)


class InTerminal:
    """`python train.py ARGUMENTS` in a new terminal.

    Args:
        arguments: of the command.
        cwd: working directory.
        columns: width of the terminal.
    """

    def __init__(self, *arguments: str, cwd: Path, columns: int) -> None:
        self.terminal = Terminal(columns)
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            cwd=cwd,
            env=environment,
            stdin=self.terminal.device,
            stdout=self.terminal.device,
            stderr=self.terminal.device,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def wait_for(self, text: str) -> None:
        """Wait until a text is on the screen."""
        self.wait_until(lambda: any(text in line for line in self.terminal.lines()))

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        while not condition():
            ended = self.process.poll() is not None
            lines = self.terminal.lines()  # read, since a full terminal blocks the program
            # the condition may have become true just before the end
            assert not ended or condition(), "\n".join(lines)
            time.sleep(0.02)

    def end(self) -> tuple[int, list[str]]:
        """Wait for the end and return the exit status and the lines on the screen."""
        while self.process.poll() is None:
            self.terminal.lines()
            time.sleep(0.02)
        return self.process.returncode, self.terminal.lines()
