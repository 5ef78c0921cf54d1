"""Commands in processes of multiprocessing's fork server, which has imported PyTorch.

The processes run the same code as `python train.py` and `python -m cifar_exp`, and start their
worker processes in the usual way.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.reliability.hold import LONGEST_WAIT_SECONDS

ROOT = Path(__file__).parents[1]
_context = multiprocessing.get_context("forkserver")
# Imports of commands; missing libraries are ignored.
_context.set_forkserver_preload(
    [
        "hydra",
        "torch.utils.tensorboard",
        "cifar_exp.figures.curves",
        "cifar_exp.figures.images",
        "cifar_exp.figures.calibration",
        "cifar_exp.figures.probabilities",
        "cifar_exp.runs.train_one",
        "cifar_exp.search.report",
        "cifar_exp.search.search",
        "cifar_exp.reports.compare",
        "cifar_exp.reports.list_runs",
        "cifar_exp.reports.render",
        "cifar_exp.reports.run_tables",
        "cifar_exp.sweeps.sweep",
        "cifar_exp.inference.test_data",
        "cifar_exp.inference.saving",
        "scipy.stats",
        "tests.preload",  # must be last
    ]
)


class Command:
    """A running command with an interface like `subprocess.Popen`.

    It starts a new session, so that it can be killed together with its subprocesses.

    Args:
        arguments: of the command.
        program: "train.py", the path of another train.py, or "cifar_exp".
        cwd: working directory.
        environment: environment variables; None for those of the tests.
    """

    def __init__(
        self,
        *arguments: str,
        program: str = "train.py",
        cwd: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._output = Path(tempfile.mkdtemp(prefix="command-"))
        weakref.finalize(self, shutil.rmtree, self._output, ignore_errors=True)
        self._process = _context.Process(
            target=_run,
            args=(
                arguments,
                program,
                str(cwd),
                dict(os.environ if environment is None else environment),
                str(self._output),
            ),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while the command runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while the command runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the command and return its exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(f"command {self.pid}", timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end of the command and return its stdout and stderr."""
        self.wait(timeout)
        return self.printed()

    def printed(self) -> tuple[str, str]:
        """Return the stdout and stderr so far."""
        out, err = (
            (self._output / name).read_bytes().decode(errors="replace") for name in ("out", "err")
        )
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, not to its subprocesses."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the command, not its subprocesses."""
        self.send_signal(signal.SIGKILL)

    def kill_session(self) -> None:
        """Kill all remaining processes of the session."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start_process(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Run a function in a new process that has imported PyTorch."""
    process = _context.Process(target=target, args=arguments)
    process.start()
    return process


@dataclass(frozen=True)
class Finished:
    """Exit status and output of a command; `status` is None after a timeout."""

    status: int | None
    out: str
    err: str


def run_command(
    *arguments: str, timeout_seconds: float = LONGEST_WAIT_SECONDS, **options: Any
) -> Finished:
    """Run a command to its end. Args: options: for `Command`."""
    command = Command(*arguments, **options)
    try:
        status: int | None = command.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        status = None
    command.kill_session()
    return Finished(status, *command.communicate(timeout=LONGEST_WAIT_SECONDS))


def _run(
    arguments: tuple[str, ...],
    program: str,
    cwd: str,
    environment: dict[str, str],
    output_folder: str,
) -> None:
    """Replace this process by the command; does not return."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    out, err = (Path(output_folder) / name for name in ("out", "err"))
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    sys.warnoptions[:] = ["error::UserWarning"]  # for subprocesses as well
    warnings.resetwarnings()
    warnings.simplefilter("error", UserWarning)
    status: object = 0
    try:
        if program.endswith("train.py"):
            sys.argv = [str(ROOT / program), *arguments]
            sys.path[0] = str(Path(sys.argv[0]).parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            sys.argv = ["cifar_exp", *arguments]
            sys.path[0] = cwd
            runpy.run_module("cifar_exp", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # as Python does before it exits
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))
