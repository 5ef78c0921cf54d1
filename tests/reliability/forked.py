"""Commands without the seconds that PyTorch takes to be imported: each is a fork of one process.

What runs in a fork is what `python train.py ARGUMENTS` and `python -m cifar_exp ARGUMENTS` run.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.005
# What commands import, most of it when they need it.
_IMPORTED = (
    "hydra",
    "torch.utils.tensorboard",
    "cifar_exp.figures.curves",
    "cifar_exp.figures.images",
    "cifar_exp.runs.single",
    "cifar_exp.studies.compare",
    "cifar_exp.studies.render",
    "cifar_exp.studies.sweep",
)


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

    def __call__(
        self, *arguments: str, program: str = "train.py", cwd: Path, seconds: float = 60
    ) -> Done:
        """Run a command to its end.

        Args:
            arguments: of the program.
            program: "train.py" or "cifar_exp".
            cwd: where it is called.
            seconds: after which it is killed.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        out, err = self._folder / "out", self._folder / "err"
        request = {
            "arguments": arguments,
            "program": program,
            "cwd": str(cwd),
            "seconds": seconds,
            "out": str(out),
            "err": str(err),
        }
        started = time.monotonic()
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        status = json.loads(self._server.stdout.readline())
        texts = (path.read_bytes().decode(errors="replace") for path in (out, err))
        return Done(status, *texts, time.monotonic() - started)


def _serve() -> None:
    for name in _IMPORTED:
        import_module(name)
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        print(json.dumps(_wait(child, request["seconds"])), file=replies, flush=True)


def _run(request: dict[str, object]) -> None:
    """Become the command; never returns."""
    import runpy

    os.setsid()  # so that all of it can be stopped
    os.chdir(str(request["cwd"]))
    for number, name in ((0, os.devnull), (1, str(request["out"])), (2, str(request["err"]))):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    arguments = request["arguments"]
    assert isinstance(arguments, list)
    status: object = 0
    try:
        if request["program"] == "train.py":
            sys.argv = [str(ROOT / "train.py"), *arguments]
            sys.path[0] = str(ROOT)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = ["cifar_exp", *arguments]
            sys.path[0] = str(request["cwd"])
            runpy.run_module("cifar_exp", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as Python does at its end
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _wait(child: int, seconds: float) -> int | None:
    """Wait for a process, and stop all of it after that time. Returns: exit status, or None."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            with suppress(ProcessLookupError):  # the server of workers may still be starting
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL_SECONDS)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _serve()
