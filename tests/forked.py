"""Commands without the seconds that PyTorch takes to be imported: each is a fork of one process.

What runs in a fork is what `python train.py ARGUMENTS` and `python -m cifar_exp ARGUMENTS` run.
"""

import json
import multiprocessing.util
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
_POLL_SECONDS = 0.005
# What commands import, most of it when they need it.
_IMPORTED = (
    "hydra",
    "torch.utils.tensorboard",
    "cifar_exp.figures.curves",
    "cifar_exp.figures.images",
    "cifar_exp.runs.single",
    "cifar_exp.search.report",
    "cifar_exp.search.search",
    "cifar_exp.figures.reliability",
    "cifar_exp.figures.probabilities",
    "cifar_exp.studies.compare",
    "cifar_exp.studies.listing",
    "cifar_exp.studies.render",
    "cifar_exp.studies.sweep",
    "cifar_exp.trained.data",
    "cifar_exp.trained.writing",
    "scipy.stats",
)


class Fork:
    """A command that runs, with what tests use of a `subprocess.Popen`.

    It leads a session of its own, so that it can be ended together with all that it starts.
    """

    def __init__(self, forks: "Forks", pid: int, folder: Path) -> None:
        self._forks = forks
        self._folder = folder
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._forks.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once there is one."""
        deadline = time.monotonic() + (timeout or float("inf"))
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0)
            time.sleep(_POLL_SECONDS)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it has said once it has ended."""
        self.wait(timeout)
        out, err = (
            (self._folder / name).read_bytes().decode(errors="replace") for name in ("out", "err")
        )
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal to it alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it alone."""
        self.send_signal(signal.SIGKILL)

    def end_all(self) -> None:
        """Kill whatever is left of its session: a server of workers may still be starting."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Done:
    """How a command ended: `status` is None if it had to be stopped."""

    status: int | None
    out: str
    err: str
    seconds: float


class Forks:
    """The process that has everything imported, seen from a test.

    Args:
        folder: for what the commands print.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.communicate()  # its input ends, and so does it

    def ask(self, **request: object) -> Any:
        """Let the server do something, and return its answer."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(
        self,
        *arguments: str,
        program: str = "train.py",
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Fork:
        """Begin a command.

        Args:
            arguments: of the program.
            program: "train.py", the path of another train.py, or "cifar_exp".
            cwd: where it is called.
            environment: what it gets; None for that of the tests.
        """
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        pid = self.ask(
            arguments=arguments,
            program=program,
            cwd=str(cwd),
            environment=dict(environment or os.environ),
            folder=str(folder),
        )
        return Fork(self, pid, folder)

    def __call__(self, *arguments: str, seconds: float = 60, **how: Any) -> Done:
        """Run a command to its end. Args: seconds: after which it is killed; how: as in `start`."""
        started = time.monotonic()
        process = self.start(*arguments, **how)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        process.end_all()
        return Done(status, *process.communicate(), time.monotonic() - started)


def _serve() -> None:
    for name in _IMPORTED:
        with suppress(ModuleNotFoundError):  # an optional library
            import_module(name)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            _run(request)
        print(json.dumps(answer), file=replies, flush=True)


def _run(request: dict[str, Any]) -> None:
    """Become the command; never returns."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    folder = Path(request["folder"])
    for number, path in ((0, Path(os.devnull)), (1, folder / "out"), (2, folder / "err")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags), number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    multiprocessing.util.spawnv_passfds = _fork_instead  # type: ignore[assignment]
    arguments = request["arguments"]
    status: object = 0
    try:
        if request["program"].endswith("train.py"):
            sys.argv = [str(ROOT / request["program"]), *arguments]
            sys.path[0] = str(Path(sys.argv[0]).parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = ["cifar_exp", *arguments]
            sys.path[0] = request["cwd"]
            runpy.run_module("cifar_exp", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as Python does at its end
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _fork_instead(_program: object, arguments: list[str], files: tuple[int, ...]) -> int:
    """Do what a new Python would be started for, the server of a sweep's workers for one."""
    child = os.fork()
    if child:
        return child
    try:
        for file in map(int, os.listdir("/dev/fd")):
            if file not in (0, 1, 2, *files):
                with suppress(OSError):  # the list itself has been closed
                    os.close(file)
        exec(arguments[-1], {"__name__": "__main__"})
    finally:
        os._exit(0)  # what is above on the stack belongs to the parent


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _serve()
