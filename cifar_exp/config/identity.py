"""Ids and names of runs."""

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
from cifar_exp.models.settings import PINNED, NetworkSection

# Increase it when the same settings compute something else. This changes every id.
VERSION = 2
# Settings of storage, logging and measurement, which do not affect the training.
NOT_IN_IDENTITY = {"logger", "metrics", "paths", "rerun", "resume", "keep_checkpoint"}
# Settings added later, with the value that equals the earlier behavior. With this value they are
# not part of the id, so that the ids of older runs do not change.
_ADDED_LATER: dict[tuple[str, str], Any] = {
    ("data", "val_fraction"): 0.0,
    ("data", "test_fraction"): 0.2,  # earlier, a folder needed train/ and test/
    ("model", "dropout_in_testing"): False,
    ("training", "keep"): "last",
    ("training", "patience"): None,
    ("model", "init"): None,
}
# The order of settings in a name, which may be truncated: first all settings of _WHOLE and those
# with a short name, by section, then the others.
_STUDIED = ("optimizer", "scheduler", "data", "training", "model")
_WHOLE = {"optimizer", "scheduler", "training"}
_OTHERS = ("seed", "model", "data", "precision", "device", "deterministic")
_MAX_NAME_BYTES = 80
_ARTICLE = RunConfig()


def identity(config: RunConfig) -> dict[str, Any]:
    """Return the settings that determine what a run computes, as JSON values."""
    content = config.model_dump(mode="json", exclude=NOT_IN_IDENTITY)
    content |= {"data": config.data.identity(), "model": config.model.identity()}
    for (section, name), earlier in _ADDED_LATER.items():
        if content[section].get(name, ...) == earlier and _has_field(config, section, name):
            del content[section][name]
    return content


def _has_field(config: RunConfig, section: str, name: str) -> bool:
    return name in type(getattr(config, section)).model_fields  # not an argument of custom code


def run_id(config: RunConfig) -> str:
    """Return the id of a run, ten hex digits of a hash of its identity."""
    return _digest(identity(config))


def config_id(config: RunConfig) -> str:
    """Return the id without the seed, which all replicates of a configuration share."""
    return _digest({key: value for key, value in identity(config).items() if key != "seed"})


def prefix_id(config: RunConfig) -> str:
    """Return the id without the number of epochs, which a run shares with longer ones.

    If these can be continued, a run equals the first epochs of a longer run with the same id.
    """
    content = identity(config)
    del content["training"]["epochs"]
    return _digest(content)


def can_be_continued(config: RunConfig) -> bool:
    """Return whether a complete run can be continued for more epochs."""
    return not config.scheduler.depends_on_length


def shorter_ids(config: RunConfig) -> Iterator[tuple[int, str]]:
    """Yield each smaller number of epochs, in descending order, and the id of the run with it."""
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
    """Return the settings in the identity by dotted key, as JSON values.

    The option of a section is listed under the key of the section: `optimizer: sgd`, or for custom
    code `model: my_package.MyNet`.
    """
    flat: dict[str, Any] = {}
    for section, value in identity(config).items():
        if not isinstance(value, dict):
            flat[section] = value
            continue
        option = value.pop("_target_", value.pop("name", None))
        if option:
            flat[section] = option
        flat |= {f"{section}.{key}": setting for key, setting in value.items()}
    if isinstance(config.model, NetworkSection) and config.model.init:
        flat["model.init"] = config.model.init.partition(PINNED)[0]  # shorter than the SHA-256
    return flat


def all_settings(config: RunConfig) -> dict[str, Any]:
    """Return `settings`, and those that the identity omits so that ids of older runs are kept."""
    omitted = {
        f"{section}.{name}": earlier
        for (section, name), earlier in _ADDED_LATER.items()
        if _has_field(config, section, name)
    }
    flat = settings(config)
    return flat | {key: value for key, value in omitted.items() if key not in flat}


def model_and_data(config: RunConfig) -> str:
    """Return the model and the data set: "vgg16 on cifar10"."""
    flat = settings(config)
    return f"{flat['model']} on {flat['data']}"


def differences(config: RunConfig) -> dict[str, Any]:
    """Return the settings that differ from the article's, by dotted key.

    The settings of an option that the article does not use are compared with its defaults:
    `optimizer=sgd` alone is one difference, although its learning rate differs from Adam's.
    """
    flat = settings(config)
    defaults: dict[str, Any] = {}
    for section in {key.partition(".")[0] for key in flat}:
        defaults |= _defaults(config, section)
    different = {key: value for key, value in flat.items() if value != defaults.get(key)}
    return dict(sorted(different.items(), key=lambda item: _position(item[0])))


def _position(key: str) -> int:
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
    values = {key: field.default for key, field in fields.items()}
    defaults = json.loads(json.dumps(values, default=str))
    return {section: article.name if "name" in fields else None} | {
        f"{section}.{key}": default for key, default in defaults.items() if key != "name"
    }


def run_name(config: RunConfig) -> str:
    """Return the differences from the article as the name of a folder: `lr=0.1,seed=1`."""
    name = ",".join(name_parts(config)) or "article"
    short = shortened(name, _MAX_NAME_BYTES)
    return name if short == name else short.rpartition(",")[0] or short


def name_parts(config: RunConfig) -> list[str]:
    """Return the differences from the article as in names: `["lr=0.1", "seed=1"]`."""
    return [f"{key.split('.')[-1]}={_format(value)}" for key, value in differences(config).items()]


def _format(value: Any) -> str:
    if isinstance(value, str) and "/" in value:
        value = Path(value).name
    text = "-".join(map(str, value)) if isinstance(value, list) else f"{value}"
    return re.sub(r"[^\w.+-]+", "-", text)


def varied(configs: Sequence[RunConfig]) -> list[str]:
    """Return the keys that differ between runs, except the seed.

    A setting that only some runs have, such as `optimizer.momentum`, is included if it differs
    between them.
    """
    values: dict[str, set[str]] = defaultdict(set)
    for config in configs:
        for key, value in all_settings(config).items():
            values[key].add(str(value))
    return [key for key, distinct in values.items() if len(distinct) > 1 and key != "seed"]
