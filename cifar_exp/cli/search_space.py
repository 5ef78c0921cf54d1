"""How the space of a search is typed: `optimizer.lr=interval(0.001,0.1)`."""

import math
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    RangeSweep,
    Sweep,
    Transformer,
)

from cifar_exp.cli.command_line import range_values, refuse_other_sweeps, with_dotted_key
from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.errors import UserError
from cifar_exp.search.space import Choice, Domain, Interval


def read_space(
    arguments: Sequence[str], config_loader: ConfigLoader
) -> tuple[dict[str, Domain], list[str]]:
    """Part what a search chooses from what all its runs share.

    Args:
        arguments: `KEY=VALUE` in Hydra's syntax; of two with the same key the later one holds.
        config_loader: knows the options of groups, for `glob(*)`.

    Returns:
        The space by key, and the other arguments.

    Raises:
        UserError: the values of a key are none that can be searched.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    by_key: dict[str, Override] = {}
    for override in parser.parse_overrides([with_dotted_key(word) for word in arguments]):
        name = override.get_key_element()
        key = SHORT_NAMES.get(name, name)  # a level and a number set the same
        by_key.pop(key, None)
        by_key[key] = override
    refuse_other_sweeps(list(by_key.values()), of_search=True)
    sweeps = [override for override in by_key.values() if override.is_sweep_override()]
    space = {override.get_key_element(): _domain(override) for override in sweeps}
    return space, [str(o.input_line) for o in by_key.values() if not o.is_sweep_override()]


def _domain(override: Override) -> Domain:
    sweep, text = override.value(), override.input_line
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if tags - ({"log"} if isinstance(sweep, IntervalSweep) else set()):
        raise UserError(f"{text}: expected no tag but log, and that of an interval")
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        return _interval(Interval(sweep.start, sweep.end, "log" in tags), text)
    if isinstance(sweep, RangeSweep):
        return _of_range(sweep, text)
    values = override.sweep_iterator()
    options = [v if isinstance(v, int | float) else Transformer.str(v) for v in values]
    if not options:
        raise UserError(f"{text}: expected something to choose from")
    return Choice(tuple(dict.fromkeys(options)))


def _of_range(sweep: RangeSweep, text: str | None) -> Interval:
    """Take the numbers that a sweep over the range would have: the end is not among them."""
    values = range_values(sweep) if sweep.step > 0 else []
    if not values:
        raise UserError(f"{text}: expected a range that ascends, such as range(1,10)")
    return _interval(Interval(values[0], values[-1], step=sweep.step), text)


def _interval(interval: Interval, text: str | None) -> Interval:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        raise UserError(f"{text}: expected two numbers")
    if interval.low > interval.high or (interval.log and interval.low <= 0):
        above = " above 0" * interval.log
        raise UserError(f"{text}: expected the lower number first, and numbers{above}")
    return interval
