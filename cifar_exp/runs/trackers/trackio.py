"""Trackio: a local dashboard, or a server where the user has named one in the environment."""

from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import Any

from cifar_exp.runs.trackers.tracker import TrackedRun, scalars
from cifar_exp.training.events import EpochMetrics


class Trackio:
    """One run there, found again by its name, which holds the run's id."""

    def __init__(self) -> None:
        self._run: Any = None
        self._next_epoch = 0
        self._last_epoch = 0

    def begin(self, run: TrackedRun) -> None:
        """Begin or go on."""
        import trackio

        _silence()
        # in a context of its own: the run of the last one would be finished
        self._run = Context().run(
            trackio.init,
            project=run.config.logger.project,
            group=run.config.logger.group,
            name=run.name,
            config=run.as_settings,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        # after the last step that is there; 0 for a new run
        self._next_epoch = getattr(self._run, "_next_step", 0)
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch, unless it is there: it would be shown twice."""
        self._last_epoch = metrics.epoch
        if metrics.epoch >= self._next_epoch:
            self._run.log(scalars(metrics), step=metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """Add the pictures, and finish."""
        if self._run is None:
            return
        import trackio

        try:
            pictures = {tag: trackio.Image(str(path)) for tag, path in images.items()}
            if pictures:
                self._run.log(pictures, step=self._last_epoch)
        finally:
            self._run.finish()


def _silence() -> None:
    """Let Trackio print nothing, for which it has no setting; standard output is others' too."""
    import trackio.run
    import trackio.utils

    for module in (trackio, trackio.run, trackio.utils):
        vars(module)["print"] = lambda *_args, **_how: None
