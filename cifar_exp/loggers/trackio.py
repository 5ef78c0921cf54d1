"""Trackio: a local dashboard, or a server where the user has named one in the environment."""

from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import Any

from cifar_exp.loggers.base import Kind, LoggedRun, scalars
from cifar_exp.training.progress import EpochMetrics

_ATTEMPTS = 3  # to write what was dropped


class Trackio:
    """One run there, found again by its name, which holds the run's id."""

    def __init__(self) -> None:
        self._tracked: LoggedRun | None = None
        self._run: Any = None
        self._epochs: list[EpochMetrics] = []
        self._there: set[int] = set()  # epochs; one that is logged again would be shown twice

    def begin(self, run: LoggedRun) -> None:
        """Begin or go on."""
        _silence()
        self._tracked = run
        self._open()
        self._there = self._stored_epochs()
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch, unless it is there."""
        self._epochs.append(metrics)
        if metrics.epoch not in self._there:
            self._run.log(scalars(metrics), step=metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """Add the pictures, and finish."""
        if self._run is None:
            return
        import trackio

        try:
            pictures = {tag: trackio.Image(str(path)) for tag, path in images.items()}
            if pictures:
                self._run.log(pictures, step=self._epochs[-1].epoch)
        finally:
            self._run.finish()
        self._add_what_is_missing()

    def _open(self) -> None:
        import trackio

        assert self._tracked is not None
        config = self._tracked.config
        # in a context of its own: the run of the last one would be finished
        self._run = Context().run(
            trackio.init,
            project=config.logger.project,
            group=config.logger.group,
            name=self._tracked.name,
            config=self._tracked.as_settings,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    @property
    def _is_database(self) -> bool:
        """Whether runs go to a database here, and not to a server or a network's file system."""
        return bool(self._run._is_local and self._run._storage_mode == "sqlite")

    def _stored_epochs(self) -> set[int]:
        if not self._is_database:  # of which Trackio knows the last step alone
            return set(range(self._run._next_step))
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_logs(self._run.project, self._run.name, run_id=self._run.id)
        return {row["step"] for row in rows if "loss/train" in row}

    def _add_what_is_missing(self) -> None:
        """Log epochs again that Trackio dropped: those that found its database locked for long.

        Raises:
            RuntimeError: some are dropped again.
        """
        for attempt in range(_ATTEMPTS + 1):
            self._there = self._stored_epochs()
            missing = [metrics for metrics in self._epochs if metrics.epoch not in self._there]
            if not missing or not self._is_database:
                return
            if attempt == _ATTEMPTS:
                raise RuntimeError(f"{len(missing)} epochs were dropped")
            self._open()
            for metrics in missing:
                self._run.log(scalars(metrics), step=metrics.epoch)
            self._run.finish()


def _silence() -> None:
    """Let Trackio print nothing, for which it has no setting; standard output is others' too."""
    import trackio.run
    import trackio.utils

    for module in (trackio, trackio.run, trackio.utils):
        vars(module)["print"] = lambda *_args, **_how: None


LOGGER = Kind(Trackio, title="Trackio", package="trackio")
