"""TensorBoard's HParams page: which settings there are with which levels, and each run's own.

Each run says in its event files which settings it has. What the page offers, check boxes for the
levels and the metrics, is one event file for all runs. A run with a level that is not among them
would not be shown, so it is made anew when a sweep brings further levels.
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

# Among the levels of all settings, the columns of metrics.jsonl whose last values are shown.
_METRICS = "metrics"
_SPLITS = ("test", "val", "train", "")  # in the order of the page
# With more levels than that TensorBoard has no check boxes, but for numbers an interval.
_MOST_BOXES = 9
# The folder of the file says what is in it: a TensorBoard that is open reads a file once, and takes
# note of folders that come and go.
_FOLDER = "hparams-{digest}"
_MADE_HERE = re.compile(r"hparams-[0-9a-f]{6}")
_FILE = "events.out.tfevents.0000000000.hparams"
_KNOWN = ".hparams.json"  # all levels of all settings that were ever declared in a folder


def values(config: RunConfig) -> dict[str, Level]:
    """Return the settings of a run as the page shows them: without the seed, which it averages.

    A setting that is None is left out, and a list becomes a word.
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
    """Tell the page the levels of runs that are to be trained, before they are.

    Args:
        configs: of all of them; those without TensorBoard do not count.

    Raises:
        OSError: the files cannot be written; `filename` is given.
    """
    by_folder: dict[Path, list[dict[str, Level]]] = {}
    for config in configs:
        if config.logger.tensorboard:
            runs = by_folder.setdefault(as_path(config.paths.logs), [])
            runs += [values(config), *_columns(config)]
    for folder, runs in by_folder.items():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".hparams.lock"):  # several sweeps may begin at once
            _declare(folder, runs)


def _columns(config: RunConfig) -> Iterator[dict[str, Level]]:
    """Yield the columns of metrics.jsonl that a run has, and that compare runs."""
    splits = ("", "train", evaluated_split(config.data.evaluated_on))
    for key, column in COLUMNS.items():
        metric, is_there = column.metric, column.tag and column.split in splits
        if is_there and (metric.name in config.metrics if metric.optional else metric.better):
            yield {_METRICS: key}


def _declare(logs: Path, runs: Sequence[dict[str, Level]]) -> None:
    remove_temporaries(logs, _KNOWN, f"{_FOLDER.format(digest='*')}/{_FILE}")
    levels = _merged(_read(logs / _KNOWN), runs)
    digest = hashlib.sha256(json.dumps(levels).encode()).hexdigest()[:6]
    folder = logs / _FOLDER.format(digest=digest)
    if not (folder / _FILE).exists():
        write_json(logs / _KNOWN, levels)
        refuse_links(folder, logs)
        folder.mkdir(exist_ok=True)
        write_atomically(folder / _FILE, lambda file: _write(file, levels))
    for other in logs.glob(_FOLDER.format(digest="*")):
        if other != folder and _MADE_HERE.fullmatch(other.name):
            remove_files(other, _FILE)


def _read(file: Path) -> dict[str, list[Level]]:
    try:
        known = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError):
        return {}
    is_whole = isinstance(known, dict) and all(isinstance(there, list) for there in known.values())
    return known if is_whole else {}


def _merged(
    known: dict[str, list[Level]], runs: Sequence[dict[str, Level]]
) -> dict[str, list[Level]]:
    levels = {key: set(there) for key, there in known.items()}
    for run in runs:
        for key, value in run.items():
            levels.setdefault(key, set()).add(value)
    return {key: sorted(there, key=_order) for key, there in sorted(levels.items())}


def _order(level: Level) -> tuple[str, Level]:
    return type(level).__name__, level


def _write(file: Path, levels: dict[str, list[Level]]) -> None:
    from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb

    from cifar_exp.loggers.event_file import EventFile

    # what all runs share tells nothing there
    differ = [key for key, there in levels.items() if len(there) > 1 and key != _METRICS]
    shown = differ or [key for key in SHORT_NAMES.values() if key in levels]
    settings = [HParam(key, _domain(levels[key]), key.rpartition(".")[2]) for key in shown]
    columns = [COLUMNS[str(key)] for key in levels.get(_METRICS, []) if key in COLUMNS]
    columns.sort(key=lambda column: (_SPLITS.index(column.split), column.key))
    metrics = [Metric(c.tag, display_name=c.key.replace("_", " ")) for c in columns]
    with EventFile(file) as events:
        events.add(hparams_config_pb(settings, metrics, time_created_secs=time.time()))


def _domain(levels: list[Level]) -> Any:
    from tensorboard.plugins.hparams.summary_v2 import Discrete, RealInterval

    numbers = [level for level in levels if isinstance(level, float)]
    if len(numbers) > _MOST_BOXES:
        return RealInterval(min(numbers), max(numbers))
    return Discrete(levels) if len({type(level) for level in levels}) == 1 else None
