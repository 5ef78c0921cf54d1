"""Weights & Biases: online with an API key, otherwise offline for `wandb sync`."""

import logging
import netrc
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cifar_exp.expressions import as_path
from cifar_exp.loggers.base import Kind, LoggedRun, scalars
from cifar_exp.training.progress import EpochMetrics

_INIT_TIMEOUT_SECONDS = 20.0


class Wandb:
    """Logs a run to W&B under the run's id and the time of its start.

    A resumed run logs its earlier epochs again, so that each offline folder is complete. Online,
    W&B ignores steps that it has.
    """

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: LoggedRun) -> None:
        """See `RunLogger`."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # before `init`, which prints messages about keys
        _keep_paths_out_of_log()
        logs = as_path(run.config.paths.logs)
        logs.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=run.config.logger.project,
            group=run.config.logger.group,
            id=f"{run.run_id}_{_digits(run.started)}",
            name=run.name,
            resume="allow",
            reinit="create_new",  # several runs may take turns
            mode=_mode(),
            dir=str(logs),
            config=run.as_settings,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_INIT_TIMEOUT_SECONDS,
                # the provenance is part of as_settings
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        """See `RunLogger`."""
        self._run.log(scalars(metrics), step=metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """See `RunLogger`."""
        if self._run is None:
            return
        import wandb

        try:
            self._run.log({tag: wandb.Image(str(path)) for tag, path in images.items()})
            self._run.summary["status"] = status
        finally:
            self._run.finish(exit_code=int(status in ("failed", "diverged")))


def _digits(time: str) -> str:
    """Return "20260131120000" for a time in UTC, since W&B's ids have no colons."""
    return re.sub(r"\D", "", time)[:14]


def _mode() -> Any:
    """Return the mode, or None if the environment sets it."""
    if "WANDB_MODE" in os.environ:
        return None
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    with suppress(OSError, netrc.NetrcParseError):  # written by `wandb login`
        return netrc.netrc().authenticators(str(host)) is not None
    return False


def _keep_paths_out_of_log() -> None:
    """Limit debug.log to warnings, since other messages contain paths from the environment."""
    logging.getLogger("wandb").addFilter(_is_warning)  # has no effect a second time


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


LOGGER = Kind(
    Wandb,
    title="W&B",
    package="wandb",
    page="wandb leet {logs}/wandb",
)
