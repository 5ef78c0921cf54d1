"""Parse the search space, such as `optimizer.lr=interval(0.001,0.1)`."""

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

from cifar_exp.cli.overrides import full_key, range_values, refuse_other_sweeps, with_dotted_key
from cifar_exp.errors import UserError
from cifar_exp.search.space import Choice, Domain, Interval


def read_space(
    arguments: Sequence[str], config_loader: ConfigLoader
) -> tuple[dict[str, Domain], list[str]]:
    """Split overrides into the search space and the settings that all trials share.

    Args:
        arguments: `KEY=VALUE` in Hydra's syntax; the last override of a key is used.
        config_loader: returns the options of groups, for `glob(*)`.

    Returns:
        The domains by key, and the other overrides.

    Raises:
        UserError: the values of a key cannot be searched.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    by_key: dict[str, Override] = {}
    for override in parser.parse_overrides([with_dotted_key(word) for word in arguments]):
        key = full_key(override.get_key_element())  # a level and a number set the same key
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
        raise UserError(f"{text}: expected no tag other than log, and only on an interval")
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        return _interval(Interval(sweep.start, sweep.end, "log" in tags), text)
    if isinstance(sweep, RangeSweep):
        return _range_interval(sweep, text)
    values = override.sweep_iterator()
    options = [v if isinstance(v, int | float) else Transformer.str(v) for v in values]
    if not options:
        raise UserError(f"{text}: expected at least one option")
    return Choice(tuple(dict.fromkeys(options)))


def _range_interval(sweep: RangeSweep, text: str | None) -> Interval:
    """Return an interval of the values that a sweep over the range has, without its end."""
    values = range_values(sweep) if sweep.step > 0 else []
    if not values:
        raise UserError(f"{text}: expected an ascending range, such as range(1,10)")
    return _interval(Interval(values[0], values[-1], step=sweep.step), text)


def _interval(interval: Interval, text: str | None) -> Interval:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        raise UserError(f"{text}: expected two finite numbers")
    if interval.low > interval.high:
        raise UserError(f"{text}: expected the lower number first")
    if interval.log and interval.low <= 0:
        raise UserError(f"{text}: expected numbers above 0, since the scale is logarithmic")
    return interval
