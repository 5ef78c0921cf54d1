"""What every tracker is told of a run, and under which names it shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from cifar_exp.config.identity import config_id, run_id, run_name
from cifar_exp.config.load import to_yaml
from cifar_exp.config.metrics import COLUMNS
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.stored_paths import anchored
from cifar_exp.files import shortened
from cifar_exp.paths import CONFUSION_FILE, PREDICTIONS_FILE
from cifar_exp.training.progress import EpochMetrics

# The tags of metrics are in config/metrics.py; docs/guide/loggers.md has all of them.
CONFIG_TAG, PROVENANCE_TAG = "text/config", "text/provenance"
# The tag of each picture in a run's folder.
IMAGE_TAGS = {PREDICTIONS_FILE: "images/predictions", CONFUSION_FILE: "images/confusion"}
# Names stand in narrow columns, and the id behind tells what was cut off.
_LONGEST_NAME_BYTES = 30


@dataclass(frozen=True)
class LoggedRun:
    """A run as its trackers see it.

    Attributes:
        config: as config.yaml has it: environment variables in it are not resolved.
        provenance: command, commit, versions and hardware, as in run.json.
        history: the epochs that were trained before, by this run or by one that it is a part of.
    """

    config: RunConfig
    provenance: dict[str, Any]
    history: tuple[EpochMetrics, ...]

    @property
    def run_id(self) -> str:
        """Ten hex digits, the same when a run goes on."""
        return run_id(self.config)

    @property
    def config_id(self) -> str:
        """Equal for runs that differ in the seed alone."""
        return config_id(self.config)

    @property
    def name(self) -> str:
        """What differs from the article, shortened, and the id."""
        return short_name(self.config)

    @property
    def as_yaml(self) -> str:
        """The settings, as config.yaml has them."""
        return to_yaml(anchored(self.config))

    @property
    def as_settings(self) -> dict[str, Any]:
        """What trackers with a table of settings show: config.yaml, ids and provenance."""
        ids = {"run_id": self.run_id, "config_id": self.config_id}
        settings: dict[str, Any] = yaml.safe_load(self.as_yaml)
        return settings | ids | {"provenance": self.provenance}


class RunLogger(Protocol):
    """Shows one run, from `begin` to `end`."""

    def begin(self, run: LoggedRun) -> None:
        """Begin, or go on with a run that was interrupted."""

    def epoch(self, metrics: EpochMetrics) -> None:
        """Add an epoch to the curves."""

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """End. Args: status: as in run.json, or interrupted; images: pictures by their tags."""


@dataclass(frozen=True)
class Kind:
    """What others need to know of a kind of logger; each module of one has it as LOGGER.

    Attributes:
        make: returns a logger for a run.
        title: in warnings.
        package: that it needs, which has the same name as the extra of pyproject.toml.
        is_service: whether it talks to others: then it has a thread, and groups of runs.
    """

    make: Callable[[], RunLogger]
    title: str
    package: str
    is_service: bool = True


def short_name(config: RunConfig) -> str:
    """Return what a run is called where there is little room: `lr=0.1,seed=1-59868be4de`.

    Of what differs from the article as much as fits, the seed in any case.
    """
    parts = run_name(config).split(",")
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
    """Return the metrics of an epoch by their tags; the step is the epoch."""
    tagged = {key: COLUMNS[key].tag for key in metrics.values if key in COLUMNS}
    return {tag: metrics[key] for key, tag in tagged.items() if tag}
