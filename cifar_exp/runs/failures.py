"""Errors of runs, and messages that say how to fix them."""

import errno

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.files import disk_full
from cifar_exp.models.settings import NetworkSection
from cifar_exp.out_of_memory import is_out_of_memory
from cifar_exp.runs.folder import MOVE_AWAY, RunFolder

_CANNOT_RESUME = "so the run cannot be resumed"


class RunError(UserError):
    """A run failed. Its run.json has the reason, its train.log the traceback.

    Attributes:
        disk_full: whether a disk was full, so that other runs would fail as well.
        out_of_memory: whether memory ran out; the run may fit when it trains alone.
    """

    def __init__(self, reason: str, disk_full: bool = False, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.disk_full = disk_full
        self.out_of_memory = out_of_memory


class CannotResumeError(RunError):
    """An interrupted run cannot be resumed from its files."""

    def __init__(self, folder: RunFolder, problem: str) -> None:
        super().__init__(
            f"{folder.path}: {problem}, {_CANNOT_RESUME}. "
            "Use resume=fresh to move its files to .replaced and start again."
        )


def is_refused(problem: str) -> bool:
    """Return whether a run fails again until the user does what its message says.

    Args:
        problem: the message.
    """
    return any(words in problem for words in (_CANNOT_RESUME, MOVE_AWAY))


def run_error(error: Exception, config: RunConfig, folder: RunFolder) -> RunError:
    """Convert an error of a run to a RunError with a message for the user.

    Args:
        error: error that ended the run.
        config: settings of the run.
        folder: folder of the run.
    """
    if isinstance(error, RunError):
        return error
    if isinstance(error, UserError):
        return RunError(str(error))
    if full := disk_full(error):
        return _disk_full(full, folder)
    if is_out_of_memory(error):
        return RunError(_out_of_memory(config), out_of_memory=True)
    if isinstance(error, OSError):
        return RunError(f"cannot use {error.filename or folder.path}: {error.strerror or error}")
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return RunError(f"{type(error).__name__}: {first_line} (traceback in {folder.log_file})")


def _disk_full(error: OSError, folder: RunFolder) -> RunError:
    limit = " (a limit on the size of files)" * (error.errno == errno.EFBIG)
    reason = (
        f"disk full{limit}: cannot write {error.filename or folder.path}. "
        "Free some space and run the same command again to resume from the last checkpoint."
    )
    return RunError(reason, disk_full=True)


def _out_of_memory(config: RunConfig) -> str:
    text = f"out of memory with data.batch_size={config.data.batch_size}"
    if isinstance(config.model, NetworkSection):
        text += f" and {config.model.name} of width {config.model.width:g}"
        return f"{text}. Choose a smaller data.batch_size or model.width."
    return f"{text} and {config.model.target}. Choose a smaller data.batch_size or network."
