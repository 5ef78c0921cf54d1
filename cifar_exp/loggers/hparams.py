"""The settings, levels and metrics of TensorBoard's HParams page.

Each run has its settings in its event files. One more event file declares the levels and metrics
that the page offers as check boxes. The page does not show runs with other levels, so this file is
replaced when a sweep has new levels.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cifar_exp.config.identity import settings
from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.config.metrics import COLUMNS, evaluated_split
from cifar_exp.config.schema import RunConfig
from cifar_exp.expressions import as_path
from cifar_exp.files import (
    read_text,
    refuse_links,
    remove_files,
    remove_temporaries,
    write_atomically,
    write_json,
)

Level = bool | float | str

# Key among the settings, whose levels are the columns of metrics.jsonl that the page shows.
_METRICS = "metrics"
_SPLITS = ("test", "val", "train", "")  # order of the columns
# With more numeric levels, the page offers an interval instead of check boxes.
_MAX_BOXES = 9
# The folder is named after the file's contents, since a running TensorBoard reads a file only once
# but notices new and removed folders.
_FOLDER = "hparams-{digest}"
_FOLDER_NAME = re.compile(r"hparams-[0-9a-f]{6}")
_FILE = "events.out.tfevents.0000000000.hparams"
_LEVELS_FILE = ".hparams.json"  # all levels declared so far


def values(config: RunConfig) -> dict[str, Level]:
    """Return the settings of a run for the HParams page.

    The seed is omitted, so that the page averages over seeds. Settings that are None are omitted,
    and lists are joined.
    """
    return {
        key: _level(value)
        for key, value in settings(config).items()
        if value is not None and key != "seed"
    }


def _level(value: Any) -> Level:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return float(value)
    return "-".join(map(str, value)) if isinstance(value, list) else json.dumps(value)


def declare(configs: Iterable[RunConfig]) -> None:
    """Declare the levels of runs on the HParams page, before the runs are trained.

    Args:
        configs: settings of the runs; those without TensorBoard are ignored.

    Raises:
        OSError: a file cannot be written; `filename` is set.
    """
    by_folder: dict[Path, list[dict[str, Level]]] = {}
    for config in configs:
        if config.logger.tensorboard:
            runs = by_folder.setdefault(as_path(config.paths.logs), [])
            runs += [values(config), *_columns(config)]
    for folder, runs in by_folder.items():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".hparams.lock"):  # several sweeps may start at the same time
            _declare(folder, runs)


def _columns(config: RunConfig) -> Iterator[dict[str, Level]]:
    """Yield the columns of metrics.jsonl by which a run can be compared with others."""
    splits = ("", "train", evaluated_split(config.data.evaluated_on))
    for key, column in COLUMNS.items():
        metric, is_logged = column.metric, column.tag and column.split in splits
        if is_logged and (metric.name in config.metrics if metric.optional else metric.better):
            yield {_METRICS: key}


def _declare(logs: Path, runs: Sequence[dict[str, Level]]) -> None:
    remove_temporaries(logs, _LEVELS_FILE, f"{_FOLDER.format(digest='*')}/{_FILE}")
    levels = _merged(_read(logs / _LEVELS_FILE), runs)
    digest = hashlib.sha256(json.dumps(levels).encode()).hexdigest()[:6]
    folder = logs / _FOLDER.format(digest=digest)
    if not (folder / _FILE).exists():
        write_json(logs / _LEVELS_FILE, levels)
        refuse_links(folder, logs)
        folder.mkdir(exist_ok=True)
        write_atomically(folder / _FILE, lambda file: _write(file, levels))
    for other in logs.glob(_FOLDER.format(digest="*")):
        if other != folder and _FOLDER_NAME.fullmatch(other.name):
            remove_files(other, _FILE)


def _read(file: Path) -> dict[str, list[Level]]:
    try:
        levels = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        return {}
    is_valid = isinstance(levels, dict) and all(isinstance(v, list) for v in levels.values())
    return levels if is_valid else {}


def _merged(
    declared: dict[str, list[Level]], runs: Sequence[dict[str, Level]]
) -> dict[str, list[Level]]:
    levels = {key: set(values) for key, values in declared.items()}
    for run in runs:
        for key, value in run.items():
            levels.setdefault(key, set()).add(value)
    return {
        key: sorted(values, key=lambda level: (type(level).__name__, level))
        for key, values in sorted(levels.items())
    }


def _write(file: Path, levels: dict[str, list[Level]]) -> None:
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb

    from cifar_exp.loggers.event_file import EventFile

    settings = [HParam(key, _domain(levels[key]), key.rpartition(".")[2]) for key in _shown(levels)]
    columns = [COLUMNS[str(key)] for key in levels.get(_METRICS, []) if key in COLUMNS]
    columns.sort(key=lambda column: (_SPLITS.index(column.split), column.key))
    metrics = [Metric(c.tag, display_name=c.key.replace("_", " ")) for c in columns]
    with EventFile(file) as events:
        events.add(hparams_config_pb(settings, metrics, time_created_secs=time.time()))


def _shown(levels: dict[str, list[Level]]) -> list[str]:
    """Return the settings that differ, the usual ones first: the page has columns for five."""
    usual = [key for key in SHORT_NAMES.values() if key in levels]
    differ = {key for key, values in levels.items() if len(values) > 1 and key != _METRICS}
    return [key for key in dict.fromkeys([*usual, *levels]) if key in differ] or usual


def _domain(levels: list[Level]) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import Discrete, RealInterval

    numbers = [level for level in levels if isinstance(level, float)]
    if len(numbers) > _MAX_BOXES:
        return RealInterval(min(numbers), max(numbers))
    return Discrete(levels) if len({type(level) for level in levels}) == 1 else None
