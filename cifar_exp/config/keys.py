"""The keys that can be set, and what to type in place of one that is unknown."""

import difflib
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from cifar_exp.config.schema import RunConfig

CONF = Path(__file__).parents[2] / "conf"


def levels_in(conf: Path) -> dict[str, str]:
    """Return the groups of levels in a folder, each with the setting that its files set.

    Such a group has files that set one and the same setting each, and its name is the short name
    of that setting: `conf/lr/high.yaml` sets `optimizer.lr`.
    """
    found = {}
    for folder in sorted(path for path in conf.iterdir() if path.is_dir()):
        keys = {_only_key(file) for file in sorted(folder.glob("*.yaml"))}
        if len(keys) == 1 and (key := keys.pop()):
            found[folder.name] = key
    return found


def _only_key(file: Path) -> str:
    """Return the setting that a file sets, if it is one of a section, else nothing."""
    text = file.read_text("utf-8")
    if not text.startswith("# @package _global_"):
        return ""
    match yaml.safe_load(text):
        case {**sections} if len(sections) == 1:
            ((section, values),) = sections.items()
            if isinstance(values, dict) and len(values) == 1:
                return f"{section}.{next(iter(values))}"
    return ""


SHORT_NAMES = levels_in(CONF)
# Groups of which none may be chosen.
OPTIONAL_GROUPS = ("experiment", "study")
# The option that stands for nothing, where a group needs one.
NO_OPTION = {"logger": "none", "scheduler": "constant"}
# What other programs call these settings.
_ELSEWHERE = {
    "learning_rate": "lr",
    "wd": "weight_decay",
    "bs": "batch_size",
    "architecture": "model",
    "arch": "model",
    "network": "model",
}
_LONGEST_MISSPELT = 100
_SHOWN_KINDS = 4


def short(key: str) -> str:
    """Return the short name of a setting, or its key if it has none."""
    return next((name for name, dotted in SHORT_NAMES.items() if dotted == key), key)


@cache
def groups() -> tuple[str, ...]:
    """Return the groups of conf/, those of Hydra left out."""
    return tuple(sorted(f.name for f in CONF.glob("*") if f.is_dir() and f.name != "hydra"))


def options(group: str) -> list[str]:
    """Return the sorted options of a group in conf/."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def level(name: str, word: str) -> Any:
    """Return the value that a level of a short name sets; None if there is no such level."""
    if word not in options(name):
        return None
    section, _, key = SHORT_NAMES[name].partition(".")
    return yaml.safe_load((CONF / name / f"{word}.yaml").read_text("utf-8"))[section][key]


def known_keys() -> list[str]:
    """Return every key that can be set: dotted keys, groups and short names."""
    folders = [folder.name for folder in CONF.glob("*") if folder.is_dir()]
    return sorted({*_keys(RunConfig), *SHORT_NAMES, *folders})


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


@cache
def is_list(key: str) -> bool:
    """Tell whether a setting takes a list."""
    section, _, name = key.partition(".")
    fields = RunConfig.model_fields
    models = _models(fields[section].annotation) if section in fields else []
    annotations = [m.model_fields[name].annotation for m in models if name in m.model_fields]
    return any(getattr(annotation, "__origin__", None) is tuple for annotation in annotations)


def kinds_with(key: str) -> list[str]:
    """Return the options of a section that have a setting: sgd, rmsprop of optimizer.momentum."""
    section, _, name = key.partition(".")
    fields = RunConfig.model_fields
    models = _models(fields[section].annotation) if section in fields else []
    if len(models) < 2 or not name:
        return []
    found = [model for model in models if name in model.model_fields]
    return [kind for model in found for kind in get_args(model.model_fields["name"].annotation)]


def explain_key(key: str, kind: str | None = None) -> str:
    """Say why a key cannot be set, and what to type.

    Args:
        key: dotted.
        kind: the option that is chosen in its section; None if that is not known.
    """
    section = key.partition(".")[0]
    having = kinds_with(key)
    if having and kind not in having:
        chosen = f"{section}={kind}" if kind else f"the chosen {section}"
        shown = " or ".join(f"{section}={name}" for name in having[:_SHOWN_KINDS])
        return f"{key}: {chosen} has no such setting; choose {shown}"
    if key in known_keys():
        return f"{key}: the chosen configuration has no such setting; leave out --config-name"
    hint = nearest(key, known_keys()) or "; `python train.py --cfg job` lists them"
    return f"{key}: unknown setting{hint}"


def explain_option(group: str, option: str, found: Collection[str] = ()) -> str:
    """Say what may be chosen in a group.

    Args:
        group: of conf/, or of a folder of the user's.
        option: that was given.
        found: the options, where they are known.
    """
    known = sorted(found or options(group))
    number = "a number or " if group in SHORT_NAMES else ""
    expected = ", ".join(known) or "no option"
    if option in ("none", "null") and group in NO_OPTION:
        hint = f"; write {group}={NO_OPTION[group]}"
    elif group in SHORT_NAMES and _is_number(option):
        hint = f"; write {group}={option} without quotes"
    else:
        near = option[:_LONGEST_MISSPELT].lower()
        hint = _in_words(difflib.get_close_matches(near, known, 1, 0.7))
    return f"{group}={option}: expected {number}one of {expected}{hint}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean ...?" or nothing.

    The last part of a dotted key counts, whatever the section: `training.lr` is optimizer.lr.
    """
    if len(word) > _LONGEST_MISSPELT:
        return ""  # to compare it would take seconds
    names = sorted(candidates)
    word = word.lower()
    _, dot, last = word.rpartition(".")
    last = _ELSEWHERE.get(last.replace("-", "_"), last)
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    for near in difflib.get_close_matches(last, by_last, n=1, cutoff=0.7):
        # a short name for a short name; else the section that is most like the one given
        alike = by_last[near]
        dotted = [name for name in alike if "." in name] if dot else []
        return _in_words(difflib.get_close_matches(word, dotted or alike, n=1, cutoff=0.0))
    alike = [name for name in names if "." in name] if dot else names
    return _in_words(difflib.get_close_matches(word, alike, n=1, cutoff=0.85))


def _in_words(close: list[str]) -> str:
    return f"; did you mean {close[0]}?" if close else ""


def short_names(keys: Sequence[str]) -> list[str]:
    """Leave out the section of each key where the last part alone is unique."""
    last = [key.split(".")[-1] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]
