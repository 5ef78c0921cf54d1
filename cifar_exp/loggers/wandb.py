"""Weights & Biases: online where there is a key, else a folder for `wandb sync`."""

import logging
import netrc
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cifar_exp.expressions import as_path
from cifar_exp.loggers.base import Kind, LoggedRun, scalars
from cifar_exp.training.progress import EpochMetrics

_SECONDS_TO_BEGIN = 20.0


class Wandb:
    """One run there, under the run's own id.

    Epochs from before are told again: each offline folder is whole by itself, and online what is
    there already is passed over.
    """

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: LoggedRun) -> None:
        """Begin or go on."""
        import wandb

        wandb.setup(wandb.Settings(silent=True))  # it tells of keys before a run has settings
        _keep_paths_out_of_its_log()
        logs = as_path(run.config.paths.logs)
        logs.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=run.config.logger.project,
            group=run.config.logger.group,
            id=run.run_id,
            name=run.name,
            resume="allow",
            reinit="create_new",  # runs take turns in a process
            mode=_mode(),
            dir=str(logs),
            config=run.as_settings,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=_SECONDS_TO_BEGIN,
                # it would look at the machine and the environment by itself; as_settings has it
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
        """Add an epoch."""
        self._run.log(scalars(metrics), step=metrics.epoch)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """Add the pictures and the status, and finish."""
        if self._run is None:
            return
        import wandb

        try:
            self._run.log({tag: wandb.Image(str(path)) for tag, path in images.items()})
            self._run.summary["status"] = status
        finally:
            self._run.finish(exit_code=int(status in ("failed", "diverged")))


def _mode() -> Any:
    """Return None where the user has said what he wants, in the way that wandb reads."""
    if "WANDB_MODE" in os.environ:
        return None
    return "online" if _has_key() else "offline"


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    with suppress(OSError, netrc.NetrcParseError):  # `wandb login` writes there
        return netrc.netrc().authenticators(str(host)) is not None
    return False


def _keep_paths_out_of_its_log() -> None:
    """Let debug.log have warnings only: it would tell paths that came from the environment."""
    logging.getLogger("wandb").addFilter(_is_warning)  # the same filter is added once


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


LOGGER = Kind(Wandb, title="W&B", package="wandb")
