"""Translate the overrides of a command line, `KEY=VALUE`, into those that Hydra accepts."""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from math import inf, isfinite, prod
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    RangeSweep,
    Sweep,
)

from cifar_exp.cli.hydra_private import parsed_value, with_parsed_value
from cifar_exp.config.keys import (
    NO_OPTION,
    OPTIONAL_GROUPS,
    SHORT_NAMES,
    explain_option,
    groups,
    known_keys,
    options,
    short,
)
from cifar_exp.config.schema import CAN_BE_CUSTOM, WITH_OPTIONS
from cifar_exp.errors import UserError
from cifar_exp.terminal import is_first

_MOST_RUNS = 10_000  # of a sweep
_KEY = r"[~+]*[\w./@]+[\w./@-]*="  # the start of an override


def translate_overrides(overrides: Sequence[str], has_config_dir: bool) -> list[str]:
    """Translate the overrides of a command line into those that Hydra accepts.

    Args:
        overrides: as typed.
        has_config_dir: whether the command line has a further folder of options.

    Returns:
        For each key the last override, with a dotted key: see `with_dotted_key`,
        `for_custom_code` and `check_groups`.

    Raises:
        UserError: an override is invalid.
    """
    for override in overrides:
        key, _, option = override.partition("=")
        section = key.removesuffix(".name")
        if section != key and section in WITH_OPTIONS:
            if option not in options(section):
                raise UserError(explain_option(section, option))
            raise UserError(f"{override}: expected no .name; write {section}={option}")
    _refuse_spaces(overrides)
    _refuse_auto_with_numbers(overrides)
    if not has_config_dir and not any("hydra.searchpath" in text for text in overrides):
        _refuse_empty_globs(overrides)  # there are no options in other folders than conf/
    dotted = [with_dotted_key(override) for override in overrides]
    return _last_of_each(check_groups(for_custom_code(dotted)))


def key_of(override: str) -> str:
    """Return the key of an override without its plus signs; one that deletes keeps its `~`."""
    return override.partition("=")[0].lstrip("+")


def full_key(override: str) -> str:
    """Return the key of an override, dotted where it is a short name."""
    return SHORT_NAMES.get(key_of(override), key_of(override))


def as_typed(override: str) -> str:
    """Return an override with the short name of its key, if the key has one."""
    key, equals, value = override.partition("=")
    return f"{short(key.lstrip('+'))}{equals}{value}"


def _refuse_spaces(overrides: Sequence[str]) -> None:
    """Refuse `lr = 0.1` and `lr=0.1, 0.01`, which the shell splits into several words."""
    known = known_keys()
    is_split = [
        (second.startswith("=") and "=" not in first)
        or ((first in known or first.endswith(("=", ","))) and not re.match(_KEY, second))
        for first, second in pairwise(overrides)
    ]
    if True not in is_split:
        return
    first = last = is_split.index(True)
    while last < len(is_split) and is_split[last]:
        last += 1
    parts = overrides[first : last + 1]
    joined = ("" if any("=" in part for part in parts) else "=").join(parts)
    raise UserError(f"{' '.join(parts)}: expected no spaces; write {shlex.quote(joined)}")


def _refuse_auto_with_numbers(overrides: Sequence[str]) -> None:
    """Refuse `seed=auto,0`."""
    for override in overrides:
        seeds = override.removeprefix("seed=").split(",")
        if override.startswith("seed=") and len(seeds) > 1 and "auto" in seeds:
            raise UserError(f"{override}: expected either auto or numbers, not both")


def _refuse_empty_globs(overrides: Sequence[str]) -> None:
    """Refuse `lr=glob(x*)` if no option of conf/lr matches."""
    for text in overrides:
        group = key_of(text)
        override = parse(text) if group in groups() and "glob(" in text else None
        value = parsed_value(override) if override else None
        if isinstance(value, Glob) and not value.filter(options(group)):
            known = ", ".join(options(group))
            raise UserError(f"{text}: matches no option of {group}; its options are {known}")


def _last_of_each(overrides: Sequence[str]) -> list[str]:
    """Keep the last override of each key, and print a warning if the values differ.

    Hydra prefers `lr=0.3` to `lr=high` in any order, since one is a value and the other the option
    of a group.
    """
    kept: dict[str, str] = {}
    repeated = []
    for override in overrides:
        previous = kept.pop(full_key(override), override)
        if previous.lstrip("+") != override.lstrip("+"):
            repeated.append(f"{as_typed(override)}, not {as_typed(previous)}")
        kept[full_key(override)] = override
    if repeated and is_first():
        print(f"set twice, and the last value is used: {'; '.join(repeated)}", file=sys.stderr)
    return list(kept.values())


def with_dotted_key(argument: str) -> str:
    """Replace the short name of a number: `lr=0.03` becomes `optimizer.lr=0.03`.

    For Hydra `lr` is a group, whose options are names. Names and globs remain unchanged.

    Args:
        argument: an override.

    Raises:
        UserError: names and numbers are mixed.
    """
    name, equals, value = argument.partition("=")
    override = parse(argument) if name in SHORT_NAMES and equals else None
    if override is None:
        return argument
    is_number = [not _is_name(value) for value in _values(override)]
    if override.type is not OverrideType.CHANGE or not any(is_number):
        return argument
    if not all(is_number):
        raise UserError(f"{argument}: expected either numbers or names of levels, not both")
    return f"{SHORT_NAMES[name]}={value}"


def _is_name(value: Any) -> bool:
    words = value if isinstance(value, list) else [value]
    # an expression is a number, since a level is typed by its name
    return all(isinstance(word, str) and not word.startswith("${") for word in words)


def for_custom_code(overrides: Sequence[str]) -> list[str]:
    """Translate `model._target_=my_package.MyNet model.depth=5` for Hydra.

    Hydra refuses unknown keys, and would keep the settings of the default network.

    Args:
        overrides: with dotted keys.

    Returns:
        The overrides with `model=own` and `++model.depth=5`.
    """
    result = list(overrides)
    for section in CAN_BE_CUSTOM:
        keys = [key_of(override) for override in result]
        if f"{section}._target_" not in keys:
            continue
        result = [
            f"++{override.lstrip('+')}" if key.startswith(f"{section}.") else override
            for key, override in zip(keys, result, strict=True)
        ]
        if section not in keys:
            result.append(f"{section}=own")
    return result


def check_groups(overrides: Sequence[str]) -> list[str]:
    """Check the options of groups, and leave out `experiment=null`.

    Args:
        overrides: with dotted keys; of a command line, or of one run of a sweep.

    Raises:
        UserError: a group has no option, a number, or a plus before its name.
    """
    return [override for override in overrides if not _chooses_nothing(override)]


def _chooses_nothing(argument: str) -> bool:
    """Return whether an override is `experiment=null`, after checking its options."""
    name = argument.partition("=")[0]
    _refuse_sign(argument)
    override = parse(argument) if _is_group(name) else None
    if override is None or override.type is not OverrideType.CHANGE:
        return False
    values = list(_values(override))
    if name in OPTIONAL_GROUPS and values == [None]:
        return True
    for value in values:
        # only some runs of a sweep have an option
        if not isinstance(value, str) and not (value is None and name in OPTIONAL_GROUPS):
            _refuse_option(argument, name, value)
    return False


def _refuse_sign(argument: str) -> None:
    """Refuse `+model=vgg16` and `~model`."""
    key, _, text = argument.partition("=")
    name = key.lstrip("+~")
    if key.startswith("+") and _is_group(name):
        problem = f"expected no plus, since {name} exists"
        raise UserError(f"{argument}: {problem}; write {name}={text}")
    if "~" in key and name in (*WITH_OPTIONS, "logger"):
        nothing = NO_OPTION.get(name)
        hint = f"; write {name}={nothing}" if nothing else ""
        raise UserError(f"{argument}: cannot be removed, since every run needs it{hint}")


def _refuse_option(argument: str, name: str, value: Any) -> None:
    """Refuse a number, null or a list as the option of a group; `logger` accepts a list."""
    if isinstance(value, list):
        if len(value) > 1 and name in WITH_OPTIONS:
            joined = ",".join(map(str, value))
            raise UserError(f"{argument}: expected one option; to sweep write -m {name}={joined}")
    elif name not in groups():
        raise UserError(f"{argument}: expected the name of an option")
    else:
        raise UserError(explain_option(name, "null" if value is None else str(value)))


def _is_group(name: str) -> bool:
    """Return whether Hydra takes a name for a group: one of conf/, or `hydra/launcher`."""
    return name in groups() or name == "hydra" or name.startswith("hydra/") or "@" in name


def parse(argument: str) -> Override | None:
    """Parse an override; return None if its syntax is wrong, which Hydra reports."""
    try:
        return OverridesParser.create().parse_override(argument)
    except Exception:
        return None


def _values(override: Override) -> Iterable[Any]:
    value = parsed_value(override)
    if isinstance(value, ChoiceSweep):
        return value.list
    if override.is_range_sweep() or override.is_interval_sweep():
        return [0.0]  # both consist of numbers
    return [] if override.is_sweep_override() else [override.value()]


def refuse_too_many_runs(overrides: Sequence[str]) -> None:
    """Refuse sweeps such as `seed=range(0,1e12)` before Hydra makes a list of their values.

    Args:
        overrides: of a sweep.

    Raises:
        UserError: the sweep has more than 10,000 runs.
    """
    swept = [parse(text) for text in overrides if "," in text or "range(" in text]
    runs = prod(_value_count(override) for override in swept if override)
    if runs > _MOST_RUNS:
        count = f"{runs:,.0f}" if isfinite(runs) else "infinitely many"
        raise UserError(f"the sweep has {count} runs: expected at most {_MOST_RUNS:,}")


def _value_count(override: Override) -> float:
    sweep = parsed_value(override)
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(x or 0) for x in (sweep.start, sweep.stop, sweep.step))
        return max(0.0, (stop - start) / step) if step else inf
    return len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1


def range_values(sweep: RangeSweep) -> list[int | float]:
    """Return the values of a range as decimal fractions, without the end of the range.

    Hydra adds binary fractions. In `range(0.1,0.5,0.1)` it returns 0.30000000000000004, which is
    not the run of `lr=0.3`; in `range(0.01,0.05,0.01)` it returns the end, 0.05.

    Args:
        sweep: a range with a step other than 0.

    Raises:
        UserError: the range is infinite.
    """
    start, stop, step = (Decimal(repr(x)) for x in (sweep.start, sweep.stop, sweep.step))
    if not (start.is_finite() and stop.is_finite() and step.is_finite()):
        raise UserError(f"range({start},{stop},{step}): expected finite numbers")
    count = int(((stop - start) / step).to_integral_value(ROUND_CEILING))
    kind = int if all(isinstance(x, int) for x in (sweep.start, sweep.stop, sweep.step)) else float
    return [kind(start + index * step) for index in range(count)]


def with_exact_ranges(overrides: Sequence[Override]) -> list[Override]:
    """Replace each range by the list of its values; see `range_values`."""
    return [
        with_parsed_value(override, _as_list(sweep))
        if isinstance(sweep := parsed_value(override), RangeSweep) and sweep.step
        else override
        for override in overrides
    ]


def _as_list(sweep: RangeSweep) -> ChoiceSweep:
    return ChoiceSweep(list=list(range_values(sweep)), tags=sweep.tags, shuffle=sweep.shuffle)


def refuse_other_sweeps(overrides: Sequence[Override], of_search: bool = False) -> None:
    """Refuse values that Hydra can parse but not sweep over.

    Args:
        overrides: of a sweep or a search.
        of_search: whether intervals are allowed.

    Raises:
        UserError: a value of a sweep is an interval, or a list contains a range.
    """
    for override in overrides:
        sweep, text = parsed_value(override), override.input_line
        if override.is_interval_sweep() and not of_search:
            raise UserError(
                f"{text}: expected a list or a range; "
                "an interval needs a search, hydra/sweeper=optuna"
            )
        parts = sweep.list if isinstance(sweep, ChoiceSweep) else []
        if any(isinstance(part, Sweep) for part in parts):
            levels = _levels(parts)
            key = short(override.get_key_element())
            hint = f"; write {key}={','.join(levels)}" if levels else ""
            raise UserError(f"{text}: expected one list or one range, not both{hint}")


def _levels(parts: Sequence[Any]) -> list[str]:
    """Return the levels of the parts of a list; [] if a part is a sweep other than a range."""
    levels: list[str] = []
    for part in parts:
        if isinstance(part, RangeSweep) and part.step:
            levels += map(str, range_values(part))
        elif isinstance(part, Sweep):
            return []
        else:
            levels.append(str(part))
    return levels
