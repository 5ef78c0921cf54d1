"""The interface of loggers, and names and tags that they share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from cifar_exp.config.identity import config_id, name_parts, run_id, run_name
from cifar_exp.config.load import to_yaml
from cifar_exp.config.metrics import COLUMNS
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.stored_paths import anchored
from cifar_exp.files import shortened
from cifar_exp.paths import CONFUSION_FILE, PREDICTIONS_FILE
from cifar_exp.training.progress import EpochMetrics

# Tags of metrics are in config/metrics.py. docs/guide/loggers.md lists all tags.
CONFIG_TAG, PROVENANCE_TAG = "text/config", "text/provenance"
# Tags of the figures in a run's folder.
IMAGE_TAGS = {PREDICTIONS_FILE: "images/predictions", CONFUSION_FILE: "images/confusion"}
# Loggers show names in narrow columns.
_LONGEST_NAME_BYTES = 30


@dataclass(frozen=True)
class LoggedRun:
    """A run to log.

    Attributes:
        config: settings as in config.yaml, with unresolved environment variables.
        provenance: command, commit, versions and hardware, as in run.json.
        history: metrics of earlier epochs, of this run or of the shorter run that it continues.
        folder: folder of the run.
        started: when its first epoch began, as in run.json. A run that is trained again, with
            rerun=true or resume=fresh, has another time and is another run of a service.
    """

    config: RunConfig
    provenance: dict[str, Any]
    history: tuple[EpochMetrics, ...]
    folder: Path
    started: str = ""

    @property
    def run_id(self) -> str:
        """Ten hexadecimal digits that identify the run, also when it is resumed."""
        return run_id(self.config)

    @property
    def config_id(self) -> str:
        """Identifier of the configuration, equal for runs that differ in the seed only."""
        return config_id(self.config)

    @property
    def name(self) -> str:
        """Short name; see `short_name`."""
        return short_name(self.config)

    @property
    def as_yaml(self) -> str:
        """Settings in YAML, as in config.yaml."""
        return to_yaml(anchored(self.config))

    @property
    def as_settings(self) -> dict[str, Any]:
        """Settings, ids, start and provenance, for loggers with a table of settings."""
        ids = {"run_id": self.run_id, "config_id": self.config_id, "started": self.started}
        settings: dict[str, Any] = yaml.safe_load(self.as_yaml)
        return settings | ids | {"provenance": self.provenance}


class RunLogger(Protocol):
    """Logs one run."""

    def begin(self, run: LoggedRun) -> None:
        """Start logging a run, or resume an interrupted one. Args: run: run to log."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Log an epoch. Args: metrics: metrics of the epoch."""

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """Log how the run ended.

        Args:
            status: status as in run.json, or "interrupted".
            images: PNG files by tag.
        """


@dataclass(frozen=True)
class Kind:
    """Description of a kind of logger; each logger's module has it as LOGGER.

    Attributes:
        make: returns a logger for one run.
        title: name for warnings.
        package: required package, and its extra in pyproject.toml.
        page: how to open its page; `{logs}` and `{project}` are replaced by the settings.
        is_service: whether it is a service, which has a thread and groups of runs.
        servers: environment variables that select a server, whose page is then another one.
    """

    make: Callable[[], RunLogger]
    title: str
    package: str
    page: str
    is_service: bool = True
    servers: tuple[str, ...] = ()


def short_name(config: RunConfig) -> str:
    """Return a short name of a run, for example `lr=0.1,seed=1-59868be4de`.

    It has as many of the settings that differ from the baseline as fit, always the seed, and the
    run's id.
    """
    parts = name_parts(config) or [run_name(config)]
    seed = [part for part in parts if part.startswith("seed=")]
    shown: list[str] = []
    for part in parts:
        if part not in seed and _fits([*shown, part, *seed]):
            shown.append(part)
    name = ",".join(shown + seed) or shortened(parts[0], _LONGEST_NAME_BYTES)
    return f"{name}-{run_id(config)}"


def _fits(parts: list[str]) -> bool:
    return len(",".join(parts).encode()) <= _LONGEST_NAME_BYTES


def scalars(metrics: EpochMetrics) -> dict[str, float]:
    """Return the metrics of an epoch by tag."""
    tagged = {key: COLUMNS[key].tag for key in metrics.values if key in COLUMNS}
    return {tag: metrics[key] for key, tag in tagged.items() if tag}
