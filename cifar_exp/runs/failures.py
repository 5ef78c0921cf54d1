"""Why a run failed, in words one can act on."""

import errno

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.files import disk_full
from cifar_exp.models.settings import NetworkSection
from cifar_exp.out_of_memory import is_out_of_memory
from cifar_exp.runs.folder import RunFolder


class RunError(UserError):
    """A run ended with an error; its folder has the reason and the traceback.

    Attributes:
        disk_full: whether a disk was full, so that other runs would end likewise.
        out_of_memory: whether memory was used up; the run may fit when no other is there.
    """

    def __init__(self, reason: str, disk_full: bool = False, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.disk_full = disk_full
        self.out_of_memory = out_of_memory


class CannotResumeError(RunError):
    """A run was begun, and what it has left does not allow to go on."""

    def __init__(self, folder: RunFolder, problem: str) -> None:
        super().__init__(
            f"{folder.path}: {problem}, so it cannot go on; "
            "resume=fresh sets aside what there is and starts again"
        )


def run_error(error: Exception, config: RunConfig, folder: RunFolder) -> RunError:
    """Say what went wrong with a run.

    Args:
        error: that ended it.
        config: of the run.
        folder: of the run; its log holds the traceback.
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
        f"disk full{limit}: cannot write {error.filename or folder.path}; "
        "make room, and the same command goes on after the last checkpoint"
    )
    return RunError(reason, disk_full=True)


def _out_of_memory(config: RunConfig) -> str:
    text = f"out of memory with data.batch_size={config.data.batch_size}"
    if isinstance(config.model, NetworkSection):
        text += f" and {config.model.name} of width {config.model.width:g}"
        return f"{text}; choose a smaller data.batch_size or model.width"
    return f"{text} and {config.model.target}; choose a smaller data.batch_size or network"
