"""A run that continues a shorter one: `epochs=20` after `epochs=10`. Nothing here needs PyTorch."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cifar_exp.config.identity import can_be_continued, shorter_ids
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.files import in_bytes
from cifar_exp.paths import CHECKPOINTS, RUNS
from cifar_exp.runs.folder import RunFolder

_REPORTED_BYTES = 100_000_000


@dataclass(frozen=True)
class Shorter:
    """A complete run that has the settings of a longer run except for the number of epochs.

    Attributes:
        folder: folder of the shorter run.
        epochs: number of epochs that the shorter run has trained.
        problem: why the longer run cannot continue it; "" if it can.
    """

    folder: RunFolder
    epochs: int
    problem: str

    def __str__(self) -> str:
        if self.problem:
            return f"starts from epoch 1: {self.problem}"
        return f"continues after epoch {self.epochs} of {self.folder.path.name}"


def shorter_run(config: RunConfig, stored: Mapping[str, RunFolder] | None = None) -> Shorter | None:
    """Find the longest complete run that a new run can continue.

    Args:
        config: settings of the new run.
        stored: folders of all runs by id; None lists them.

    Returns:
        The shorter run, with a `problem` if the new run can continue none; None if there is no
        shorter run.
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
            return Shorter(folder, len(folder.read_metrics()), "")
        found = found or Shorter(folder, epochs, f"{folder.path.name} has no checkpoint")
    return found


def continuing_lines(
    new: Sequence[tuple[RunConfig, Shorter | None]], all_ids: Collection[str]
) -> list[str]:
    """Count the runs of a sweep that continue shorter runs, and those that cannot.

    Args:
        new: its runs that have not started, each with the result of `shorter_run`.
        all_ids: ids of all its runs.

    Returns:
        Lines to print.
    """
    counts: Counter[str] = Counter()
    for config, shorter in new:
        if shorter and not shorter.problem:
            counts["continue shorter runs"] += 1
        elif shorter:
            counts[f"start from epoch 1: {shorter.problem}"] += 1
        elif not can_be_continued(config) and any(run in all_ids for _, run in shorter_ids(config)):
            counts[f"start from epoch 1: {_of_schedule(config)}"] += 1
    return [f"{count} of the new runs {what}" for what, count in counts.items()]


def checkpoint_room(kept_bytes: int) -> str | None:
    """Return a line about the size of the last checkpoints; None if they are small.

    Args:
        kept_bytes: their size, the result of `preflight`.
    """
    if kept_bytes < _REPORTED_BYTES:
        return None
    return (
        f"The last checkpoints of these runs will take {in_bytes(kept_bytes)}; "
        "`python -m cifar_exp gc --yes` deletes them."
    )


def _of_schedule(config: RunConfig) -> str:
    return (
        f"with scheduler={config.scheduler.name} the learning rates depend on the number of "
        "epochs, so a longer run cannot continue a shorter one"
    )
