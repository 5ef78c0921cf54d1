"""Keys and options that can be set, and suggestions for unknown ones."""

import difflib
import types
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from cifar_exp.config.command_settings import OF_COMMAND
from cifar_exp.config.schema import RunConfig

CONF = Path(__file__).parents[2] / "conf"


def levels_in(conf: Path) -> dict[str, str]:
    """Return the settings with a short name, by short name.

    If all files of a group set the same single setting, the name of the group is the short name of
    this setting: the files of `conf/lr` set `optimizer.lr`.
    """
    found = {}
    for folder in sorted(path for path in conf.iterdir() if path.is_dir()):
        keys = {_only_key(file) for file in sorted(folder.glob("*.yaml"))} - {None}
        if len(keys) == 1 and (key := keys.pop()):
            found[folder.name] = key
    return found


def _only_key(file: Path) -> str | None:
    """Return the dotted key that a file sets; "" for none or several, None if it is unreadable."""
    try:
        text = file.read_text("utf-8")
        content = yaml.safe_load(text) if text.startswith("# @package _global_") else None
    except (OSError, ValueError, yaml.YAMLError):  # Hydra reports it if the file is selected
        return None
    match content:
        case {**sections} if len(sections) == 1:
            ((section, values),) = sections.items()
            if isinstance(values, dict) and len(values) == 1:
                return f"{section}.{next(iter(values))}"
    return ""


SHORT_NAMES = levels_in(CONF)
# Groups without a default option.
OPTIONAL_GROUPS = ("experiment", "study")
# The option that disables a group.
NO_OPTION = {"logger": "none", "scheduler": "constant"}
# Names of these settings in other programs.
_ALIASES = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "bs": "batch_size",
    "architecture": "model",
    "arch": "model",
    "network": "model",
}
# Keys of Hydra's sections by their last part.
_OF_HYDRA = {
    "n_trials": "hydra.sweeper.n_trials",
    "sampler": "hydra.sweeper.sampler",
    "pruner": "hydra.sweeper.pruner",
    "confirm": "hydra.sweeper.confirm",
    "runs_per_device": "hydra.launcher.runs_per_device",
}
_MAX_COMPARED = 100
_MAX_SHOWN = 4


def short(key: str) -> str:
    """Return the short name of a setting, or its key if it does not have one."""
    return next((name for name, dotted in SHORT_NAMES.items() if dotted == key), key)


@cache
def groups() -> tuple[str, ...]:
    """Return the groups of conf/ except Hydra's."""
    return tuple(sorted(f.name for f in CONF.glob("*") if f.is_dir() and f.name != "hydra"))


def options(group: str) -> list[str]:
    """Return the sorted options of a group in conf/."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def level(name: str, option: str) -> Any:
    """Return the value of a named level; None if the level is unknown.

    Args:
        name: a short name, such as lr.
        option: of its group, such as high.
    """
    if option not in options(name):
        return None
    section, _, key = SHORT_NAMES[name].partition(".")
    return yaml.safe_load((CONF / name / f"{option}.yaml").read_text("utf-8"))[section][key]


def without_name(name: str, value: Any) -> Any:
    """Return the value of a named level; other values remain unchanged.

    Args:
        name: of a setting. Only short names have levels.
        value: of the setting, such as high.
    """
    is_named = isinstance(value, str) and name in SHORT_NAMES and value in options(name)
    return level(name, value) if is_named else value


def known_keys() -> list[str]:
    """Return all dotted keys, groups and short names."""
    return sorted({*_keys(RunConfig), *groups(), "hydra", *OF_COMMAND})


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections = _models(field.annotation)
        if not sections:
            yield prefix + (field.alias or name)
        for section in sections:
            yield from _keys(section, f"{prefix}{name}.")


def _models(annotation: Any) -> list[type[BaseModel]]:
    kinds = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _models_of(section: str) -> list[type[BaseModel]]:
    fields = RunConfig.model_fields
    return _models(fields[section].annotation) if section in fields else []


@cache
def is_list(key: str) -> bool:
    """Return whether the value of a setting is a list."""
    section, _, name = key.partition(".")
    fields = [model.model_fields.get(name) for model in _models_of(section)]
    return any(get_origin(field.annotation) is tuple for field in fields if field)


def kinds_with(key: str) -> list[str]:
    """Return the options of a section that have a setting; [] if the section has one option."""
    section, _, name = key.partition(".")
    models = _models_of(section)
    if len(models) < 2 or not name:
        return []
    found = [model for model in models if name in model.model_fields]
    return [kind for model in found for kind in get_args(model.model_fields["name"].annotation)]


def explain_key(key: str, kind: str | None = None) -> str:
    """Return the message for a key that cannot be set.

    Args:
        key: dotted.
        kind: the option selected in its section; None if unknown.
    """
    section = key.partition(".")[0]
    kinds = kinds_with(key)
    if kinds and kind not in kinds:
        selected = f"{section}={kind}" if kind else f"the selected {section}"
        alternatives = " or ".join(f"{section}={name}" for name in kinds[:_MAX_SHOWN])
        return f"{key}: {selected} does not have this setting; choose {alternatives}"
    if key in known_keys():
        return f"{key}: not in the selected configuration; remove --config-name"
    hint = _did_you_mean(nearest_key(key)) or "; `python train.py --cfg job` lists all settings"
    return f"{key}: unknown setting{hint}"


def explain_option(group: str, option: str, found: Collection[str] = ()) -> str:
    """Return the message for an unknown option.

    Args:
        group: of conf/, or of a folder of the user.
        option: the unknown option.
        found: the options of the group; empty for those in conf/.
    """
    known = sorted(found or options(group))
    number = "a number or " if group in SHORT_NAMES else ""
    expected = ", ".join(known) or "no option"
    if option in ("none", "null") and group in NO_OPTION:
        hint = f"; write {group}={NO_OPTION[group]}"
    elif group in SHORT_NAMES and _is_number(option):
        hint = f"; write {group}={option} without quotes"
    else:
        hint = _did_you_mean(_closest(option[:_MAX_COMPARED].lower(), known, 0.7))
    return f"{group}={option}: expected {number}one of {expected}{hint}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def nearest_key(word: str) -> str:
    """Return the known key that is most similar to an unknown one, or "".

    The last part of a dotted key is compared first: for `training.lr` it is `optimizer.lr`.
    """
    if len(word) > _MAX_COMPARED:
        return ""  # comparing it would take seconds
    if word in _OF_HYDRA:
        return _OF_HYDRA[word]
    names = known_keys()
    word = word.lower()
    _, dot, last = word.rpartition(".")
    last = _ALIASES.get(last.replace("-", "_"), last)
    by_last = defaultdict(list)
    for name in names:
        by_last[name.rpartition(".")[2]].append(name)
    if similar := by_last.get(_closest(last, by_last, 0.7)):
        # a dotted key for a dotted key, in the most similar section
        dotted = [name for name in similar if "." in name] if dot else []
        return _closest(word, dotted or similar, 0.0)
    return _closest(word, [name for name in names if "." in name or not dot], 0.85)


def _closest(word: str, candidates: Iterable[str], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(word, candidates, 1, cutoff)), "")


def _did_you_mean(name: str) -> str:
    return f"; did you mean {name}?" if name else ""


def short_names(keys: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return the last part of each dotted key, or the whole key where the part is not unique.

    Args:
        keys: dotted keys.
        taken: names of something else, such as other columns of the same table.
    """
    last = [key.split(".")[-1] for key in keys]
    return [
        name if last.count(name) == 1 and name not in taken else key
        for key, name in zip(keys, last, strict=True)
    ]
