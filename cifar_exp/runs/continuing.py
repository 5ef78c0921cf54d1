"""A run that continues a shorter one: `epochs=20` after `epochs=10`. Nothing here needs PyTorch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cifar_exp.config.identity import can_be_continued, shorter_ids
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.paths import CHECKPOINTS, RUNS
from cifar_exp.runs.folder import RunFolder

_REMARKABLE_BYTES = 100_000_000  # of last checkpoints


@dataclass(frozen=True)
class Shorter:
    """A complete run whose settings are those of a longer one, but for the number of epochs.

    Attributes:
        folder: of the shorter run.
        epochs: that it has trained.
        problem: why the longer one has to begin at epoch 1 all the same; "" if it can continue.
    """

    folder: RunFolder
    epochs: int
    problem: str

    def __str__(self) -> str:
        if self.problem:
            return f"begins at epoch 1: {self.problem}"
        return f"continues after epoch {self.epochs} of {self.folder.path.name}"


def shorter_run(config: RunConfig, stored: Mapping[str, RunFolder] | None = None) -> Shorter | None:
    """Return the longest complete run on disk that a new run can continue.

    Args:
        config: of the new run.
        stored: the folders of all runs by id, where the caller has them.

    Returns:
        If it can continue none, one that has trained the same epochs, with the reason; None if
        there is none.
    """
    if stored is None:
        stored = RunFolder.by_id(as_path(config.paths.results) / RUNS)
    found = None
    for epochs, run in shorter_ids(config):
        folder = stored.get(run)
        if folder is None or folder.status != "complete":
            continue
        if not can_be_continued(config):
            return Shorter(folder, epochs, _of_schedule(config))
        if any((folder.path / CHECKPOINTS).glob("step-*.pt")):
            return Shorter(folder, epochs, "")
        found = found or Shorter(folder, epochs, f"{folder.path.name} has no checkpoint left")
    return found


def continuing_lines(pending: Sequence[RunConfig], all_ids: Sequence[str]) -> list[str]:
    """Say which runs of a sweep continue shorter ones, and why others do not. Returns: lines.

    Args:
        pending: its runs that have not begun.
        all_ids: of all its runs.
    """
    counts: Counter[str] = Counter()
    stored = RunFolder.by_id(as_path(pending[0].paths.results) / RUNS) if pending else {}
    for config in pending:
        shorter = shorter_run(config, stored)
        if shorter and not shorter.problem:
            counts["continue shorter runs"] += 1
        elif shorter:
            counts[f"begin at epoch 1: {shorter.problem}"] += 1
        elif not can_be_continued(config) and any(run in all_ids for _, run in shorter_ids(config)):
            counts[f"begin at epoch 1: {_of_schedule(config)}"] += 1
    return [f"{count} of the new runs {what}" for what, count in counts.items()]


def checkpoint_room(kept_bytes: int) -> str | None:
    """Say how much room last checkpoints take; None where it is little.

    Args:
        kept_bytes: see `preflight`.
    """
    if kept_bytes < _REMARKABLE_BYTES:
        return None
    return (
        f"The last checkpoints of these runs will take {in_bytes(kept_bytes)}; "
        "`python -m cifar_exp gc --yes` deletes them."
    )


def _of_schedule(config: RunConfig) -> str:
    return (
        f"with scheduler={config.scheduler.name} the learning rates depend on the number of "
        "epochs, so a longer run does not begin as a shorter one"
    )
