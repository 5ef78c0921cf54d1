"""Trackio: a local dashboard, or a server that is set in the environment."""

from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import Any

from cifar_exp.loggers.base import Kind, LoggedRun, scalars
from cifar_exp.training.progress import EpochMetrics

_ATTEMPTS = 3  # to log dropped epochs again


class Trackio:
    """Logs a run to Trackio. Trackio identifies it by its name, which contains the run's id."""

    def __init__(self) -> None:
        self._logged: LoggedRun | None = None
        self._run: Any = None
        self._epochs: list[EpochMetrics] = []
        self._stored: set[int] = set()  # epochs; an epoch that is logged twice is shown twice

    def begin(self, run: LoggedRun) -> None:
        """See `RunLogger`."""
        _silence()
        self._logged = run
        self._open(resume="never" if self._is_repeated else "allow")
        self._stored = self._stored_epochs()
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        """See `RunLogger`; epochs that are stored are skipped."""
        self._epochs.append(metrics)
        if metrics.epoch not in self._stored:
            self._run.log(scalars(metrics), step=metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """See `RunLogger`."""
        if self._run is None:
            return
        import trackio

        try:
            figures = {tag: trackio.Image(str(path)) for tag, path in images.items()}
            if figures:
                self._run.log(figures, step=self._epochs[-1].epoch)
        finally:
            self._run.finish()
        self._log_missing_epochs()

    def _open(self, resume: str = "allow") -> None:
        import trackio

        assert self._logged is not None
        config = self._logged.config
        # in a new context, since `init` finishes the current run of a context
        self._run = Context().run(
            trackio.init,
            project=config.logger.project,
            group=config.logger.group,
            name=self._logged.name,
            config=self._logged.as_settings,
            resume=resume,
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    @property
    def _is_repeated(self) -> bool:
        """Whether Trackio's database has an earlier training of this run and not this one."""
        from trackio.sqlite_storage import SQLiteStorage

        assert self._logged is not None
        project = self._logged.config.logger.project
        found = SQLiteStorage.get_latest_run_record_by_name(project, self._logged.name)
        if found is None:
            return False
        config = SQLiteStorage.get_run_config(project, run_id=found["id"]) or {}
        return bool(config.get("started") != self._logged.started)

    @property
    def _is_database(self) -> bool:
        """Whether Trackio writes to a local database and not to a server or network file system."""
        return bool(self._run._is_local and self._run._storage_mode == "sqlite")

    def _stored_epochs(self) -> set[int]:
        if not self._is_database:  # only the last step is available
            return set(range(self._run._next_step))
        from trackio.sqlite_storage import SQLiteStorage

        rows = SQLiteStorage.get_logs(self._run.project, self._run.name, run_id=self._run.id)
        return {row["step"] for row in rows if "loss/train" in row}

    def _log_missing_epochs(self) -> None:
        """Log epochs again that Trackio dropped because its database was locked."""
        for attempt in range(_ATTEMPTS + 1):
            self._stored = self._stored_epochs()
            missing = [metrics for metrics in self._epochs if metrics.epoch not in self._stored]
            if not missing or not self._is_database:
                return
            if attempt == _ATTEMPTS:
                raise RuntimeError(f"{len(missing)} epochs were dropped")
            self._open()
            for metrics in missing:
                self._run.log(scalars(metrics), step=metrics.epoch)
            self._run.finish()


def _silence() -> None:
    """Disable Trackio's output, for which it has no option."""
    import trackio.run
    import trackio.utils

    for module in (trackio, trackio.run, trackio.utils):
        vars(module)["print"] = lambda *_args, **_kwargs: None


LOGGER = Kind(
    Trackio,
    title="Trackio",
    package="trackio",
    page="trackio show --project {project}",
    servers=("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"),
)
