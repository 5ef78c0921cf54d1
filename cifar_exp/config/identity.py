"""What makes two runs the same run, and what a run is called."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.config.schema import RunConfig
from cifar_exp.files import shortened

# Raise it when the same settings come to mean another computation: every id changes.
VERSION = 2
# These say where things go, what is measured and how it is shown, not what is computed.
NOT_IN_IDENTITY = {"logger", "metrics", "paths", "rerun", "resume", "keep_checkpoint"}
# Settings that came later, with the value that means what was computed before: with it they are
# left out, so that the ids of older runs stay.
_BEFORE: dict[tuple[str, str], Any] = {
    ("data", "val_fraction"): 0.0,
    ("data", "test_fraction"): 0.2,  # before, a folder without train/ and test/ was refused
}
# The settings people study stand first in a name, which may be cut off at its end: all of some
# sections, and of the others those with a short name.
_STUDIED = ("optimizer", "scheduler", "data", "training", "model")
_WHOLE = {"optimizer", "scheduler", "training"}
_OTHERS = ("seed", "model", "data", "precision", "device", "deterministic")
_LONGEST_NAME_BYTES = 80
_ARTICLE = RunConfig()


def identity(config: RunConfig) -> dict[str, Any]:
    """Return all settings that decide what a run computes, as plain JSON values."""
    content = config.model_dump(mode="json", exclude=NOT_IN_IDENTITY)
    content["data"] = config.data.identity()
    for (section, name), before in _BEFORE.items():
        if content[section].get(name) == before:
            del content[section][name]
    return content


def run_id(config: RunConfig) -> str:
    """Return ten hex digits that are equal only for runs that compute the same."""
    return _digest(identity(config))


def config_id(config: RunConfig) -> str:
    """Return the id without the seed: equal for the replicates of one configuration."""
    return _digest({key: value for key, value in identity(config).items() if key != "seed"})


def is_prefix(short: RunConfig, long: RunConfig) -> bool:
    """Tell whether a run equals the first epochs of a longer one.

    It does where all else is the same and the schedule does not know how long the run will be.
    """
    if short.training.epochs >= long.training.epochs:
        return False
    same_length = short.training.model_copy(update={"epochs": long.training.epochs})
    extended = short.model_copy(update={"training": same_length})
    return can_be_continued(long) and identity(extended) == identity(long)


def can_be_continued(config: RunConfig) -> bool:
    """Return whether the learning rates do not depend on how many epochs are trained."""
    return not config.scheduler.depends_on_length


def shorter_ids(config: RunConfig) -> Iterator[tuple[int, str]]:
    """Yield the numbers of epochs below a run's, downwards, and the ids it would have with them."""
    content = identity(config)
    content["training"]["epochs"] = -1
    before, key, after = _canonical(content).rpartition('"epochs":')
    for epochs in range(config.training.epochs - 1, 0, -1):
        text = f"{before}{key}{epochs}{after.removeprefix('-1')}"
        yield epochs, _short_digest(text)


def _digest(content: dict[str, Any]) -> str:
    return _short_digest(_canonical(content))


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps([VERSION, content], sort_keys=True, separators=(",", ":"))


def _short_digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def settings(config: RunConfig) -> dict[str, Any]:
    """Return what can be studied by dotted key, `data.batch_size` or `optimizer`, as JSON values.

    The kind of a section stands under the section's own key: `optimizer: sgd`. What is the user's
    own goes by the name of its code: `model: my_package.MyNet`.
    """
    flat: dict[str, Any] = {}
    for section, value in identity(config).items():
        if not isinstance(value, dict):
            flat[section] = value
            continue
        kind = value.pop("_target_", value.pop("name", None))
        flat |= {section: kind} if kind else {}
        flat |= {f"{section}.{key}": setting for key, setting in value.items()}
    return flat


def model_and_data(config: RunConfig) -> str:
    """Return for example "vgg16 on cifar10"."""
    flat = settings(config)
    return f"{flat['model']} on {flat['data']}"


def differences(config: RunConfig) -> dict[str, Any]:
    """Return the settings that differ from the article's; of another kind, from its own defaults.

    `optimizer=sgd` alone is one difference, although its learning rate differs from Adam's.
    """
    flat = settings(config)
    defaults: dict[str, Any] = {}
    for section in {key.partition(".")[0] for key in flat}:
        defaults |= _defaults(config, section)
    different = {key: value for key, value in flat.items() if value != defaults.get(key)}
    return dict(sorted(different.items(), key=lambda item: _place(item[0])))


def _place(key: str) -> int:
    section = key.partition(".")[0]
    if section in _WHOLE or key in SHORT_NAMES.values():
        return _STUDIED.index(section)
    return len(_STUDIED) + _OTHERS.index(section)


def _defaults(config: RunConfig, section: str) -> dict[str, Any]:
    value, article = getattr(config, section), getattr(_ARTICLE, section)
    if not isinstance(value, BaseModel):
        return {section: article}
    fields = type(value).model_fields
    # through JSON, so that tuples compare equal to lists
    own = json.loads(json.dumps({key: field.default for key, field in fields.items()}, default=str))
    return {section: article.name if "name" in fields else None} | {
        f"{section}.{key}": default for key, default in own.items() if key != "name"
    }


def run_name(config: RunConfig) -> str:
    """Return what differs from the article in words fit for a folder: `lr=0.1,seed=1`."""
    parts = [f"{key.split('.')[-1]}={_word(value)}" for key, value in differences(config).items()]
    name = ",".join(parts) or "article"
    cut = shortened(name, _LONGEST_NAME_BYTES)
    return name if cut == name else cut.rpartition(",")[0] or cut


def _word(value: Any) -> str:
    if isinstance(value, str) and "/" in value:
        value = Path(value).name
    text = "-".join(map(str, value)) if isinstance(value, list) else f"{value}"
    return re.sub(r"[^\w.+-]+", "-", text)


def varied(configs: Sequence[RunConfig]) -> list[str]:
    """Return the keys in which runs differ, but for the seed.

    A setting that only some of the runs have, such as `optimizer.momentum`, counts if those differ.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for config in configs:
        for key, value in settings(config).items():
            values[key].add(str(value))
    return [key for key, different in values.items() if len(different) > 1 and key != "seed"]
