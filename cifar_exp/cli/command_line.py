"""What the command line adds to Hydra: numbers for groups, and messages one can act on."""

import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from math import inf, isfinite, prod
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    Override,
    OverrideType,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from cifar_exp.cli.composition import adapted_to_this_project
from cifar_exp.cli.hydra_guard import in_words, only_allowed, split_allowed
from cifar_exp.cli.hydra_private import Hydra, get_args_parser, parsed_value, with_parsed_value
from cifar_exp.config.keys import (
    NO_OPTION,
    OPTIONAL_GROUPS,
    SHORT_NAMES,
    explain_key,
    explain_option,
    groups,
    is_list,
    known_keys,
    nearest,
    options,
    short,
)
from cifar_exp.config.load import trains_a_run
from cifar_exp.config.schema import CAN_BE_CUSTOM
from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import (
    TOO_LITTLE_MEMORY,
    free_memory,
    is_out_of_memory,
    keep_reserve,
)
from cifar_exp.terminal import is_first, printable

# Whether a launcher shows the settings of a sweep's runs, and trains none.
shows_settings: ContextVar[bool] = ContextVar("shows_settings", default=False)
_MOST_RUNS = 10_000  # of a sweep
_LONGEST_LINE = 500  # characters of a message
_KEY = r"[~+]*[\w./@]+[\w./@-]*="  # how an override begins
_SECTIONS = ("data", "model", "optimizer", "scheduler")  # groups of which one option is chosen


@contextmanager
def understood(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Let Hydra understand a command line while the block runs, and call no code but what is known.

    Args:
        arguments: the command line without the program.

    Yields:
        The command line that Hydra takes; see `with_dotted_keys` and `targets`.

    Raises:
        UserError: an option is unknown or incomplete, or words and numbers are mixed.
    """
    keep_reserve()
    arguments, trusted = split_allowed(arguments)
    arguments, shows = _split_shown_sweep(arguments)
    adapted = adapted_to_this_project()
    with adapted, only_allowed(trusted), _shows_sweeps(), warnings.catch_warnings():
        # conf/hydra/launcher/ray.yaml stands for the one of that name in Ray's plugin
        warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated", UserWarning)
        token = shows_settings.set(shows)
        try:
            yield with_dotted_keys(arguments)
        finally:
            shows_settings.reset(token)


def _split_shown_sweep(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--cfg job` from the command line of a sweep, since Hydra shows no sweep.

    Returns:
        The other arguments, and whether the launcher shows the settings and trains nothing.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    known, _ = parser.parse_known_intermixed_args(list(arguments))
    sweeps = known.multirun or any(override.startswith("study=") for override in known.overrides)
    if known.cfg != "job" or not sweeps:
        return list(arguments), False
    pairs = zip(arguments, ["", *arguments], strict=False)
    joined = ("--cfg=job", "-cjob")
    return [
        word
        for word, before in pairs
        if word not in ("--cfg", "-c", "--resolve", *joined) and before not in ("--cfg", "-c")
    ], True


@contextmanager
def _shows_sweeps() -> Iterator[None]:
    """Show the first run of an experiment with `hydra: {mode: MULTIRUN}` while the block runs.

    Only the composed configuration says that it is a sweep. Hydra would show what its runs share,
    which none of them trains. The trials of a search are not chosen yet, so theirs is shown so.
    """
    show = Hydra.show_cfg

    def shown(
        self: Hydra,
        config_name: str | None,
        overrides: list[str],
        cfg_type: str,
        package: str | None,
        resolve: bool = False,
    ) -> None:
        config = self.compose_config(config_name, overrides, run_mode=RunMode.RUN)
        is_search = config.hydra.runtime.choices.get("hydra/sweeper") == "optuna"
        if cfg_type != "job" or config.hydra.mode is not RunMode.MULTIRUN or is_search:
            show(self, config_name, overrides, cfg_type, package, resolve)
            return
        token = shows_settings.set(True)
        try:
            self.multirun(config_name, trains_a_run(lambda composed: None), overrides)
        finally:
            shows_settings.reset(token)

    Hydra.show_cfg = shown  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.show_cfg = show  # type: ignore[method-assign]


def with_dotted_keys(arguments: Sequence[str]) -> list[str]:
    """Give numbers set by a short name their dotted key: `lr=0.03` becomes `optimizer.lr=0.03`.

    Hydra takes `lr` for a group, whose options are words. Words and globs stay as they are.

    Args:
        arguments: the command line without the program.

    Returns:
        The command line that Hydra understands; `study=...` is a sweep.

    Raises:
        UserError: an option that starts with a dash is unknown, or words and numbers are mixed.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    # intermixed: options may stand between the overrides
    known, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        _refuse_option(unknown[0], arguments)
    if known.experimental_rerun is not None:
        _refuse("--experimental-rerun: expected no pickle, since loading one can run any code")
    if known.package and not known.cfg:
        _refuse(f"--package {known.package}: expected --cfg, whose output it selects")
    if known.multirun and known.cfg:
        _refuse(f"--cfg {known.cfg}: expected no -m, which goes with --cfg job alone")
    modes = [known.run, known.multirun, known.cfg, known.info, known.shell_completion]
    if sum(map(bool, modes)) > 1:
        _refuse("expected one of --run, --multirun, --cfg, --info and --shell-completion")
    for override in known.overrides:
        key, _, option = override.partition("=")
        section = key.removesuffix(".name")
        if section != key and section in _SECTIONS:
            if option not in options(section):
                raise UserError(explain_option(section, option))
            raise UserError(f"{override}: expected no .name; write {section}={option}")
    switches = [argument for argument in arguments if argument not in known.overrides]
    if switches and switches[-1] in ("--info", "-i"):
        switches.append("all")  # else Hydra would take the first override for its argument
    _refuse_spaces(known.overrides)
    if not known.config_dir and not any("hydra.searchpath" in o for o in known.overrides):
        _refuse_empty_globs(known.overrides)
    overrides = [with_dotted_key(override) for override in known.overrides]
    overrides = _last_of_each(chosen_groups(for_custom_code(overrides)))
    if any(override.startswith("study=") for override in overrides):
        if known.run:
            _refuse("study: expected no --run, since a study is a sweep")
        switches += ["--multirun"] * (not any(modes))
    return switches + overrides


def _refuse_option(option: str, arguments: Sequence[str]) -> NoReturn:
    name, _, value = option.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key not in known_keys():
        key = nearest(key, known_keys()).partition("did you mean ")[2].rstrip("?")
    if not key or len(name) < 2:
        _refuse(f"{option}: unknown option")
    following = arguments[arguments.index(option) + 1 :][:1]
    value = value or next((word for word in following if "=" not in word), "VALUE")
    raise UserError(f"{option}: expected a setting without dashes; write {key}={value}")


def _refuse_spaces(overrides: Sequence[str]) -> None:
    """Refuse `lr = 0.1` and `lr=0.1, 0.01`, which the shell parts into several words.

    Raises:
        UserError: with what was meant.
    """
    apart = [
        second.startswith("=")
        or (first in known_keys() and not re.match(_KEY, second))
        or (first.endswith(("=", ",")) and not re.match(_KEY, second))
        for first, second in pairwise(overrides)
    ]
    if True not in apart:
        return
    first = last = apart.index(True)
    while last < len(apart) and apart[last]:
        last += 1
    parts = overrides[first : last + 1]
    equals = "=" * (not any("=" in part for part in parts))
    joined = (equals or "").join(parts)
    raise UserError(f"{' '.join(parts)}: expected no spaces; write {shlex.quote(joined)}")


def _refuse_empty_globs(overrides: Sequence[str]) -> None:
    """Refuse `lr=glob(x*)` where no option of conf/lr matches. Args: overrides: as typed."""
    for text in overrides:
        group = key_of(text)
        override = _parsed(text) if group in groups() and "glob(" in text else None
        value = parsed_value(override) if override else None
        if isinstance(value, Glob) and not value.filter(options(group)):
            expected = ", ".join(options(group))
            raise UserError(f"{text}: matches no option of {group}; expected some of {expected}")


def _last_of_each(overrides: Sequence[str]) -> list[str]:
    """Leave out what is set again later on, and print so.

    Hydra would let `lr=0.3` win over `lr=high` wherever they stand, since one is a number and the
    other the option of a group.
    """
    kept: dict[str, str] = {}
    twice = []
    for override in overrides:
        key = key_of(override)
        key = SHORT_NAMES.get(key, key)
        before = kept.pop(key, override)
        if before.lstrip("+") != override.lstrip("+"):
            twice.append(f"{_as_typed(override)}, not {_as_typed(before)}")
        kept[key] = override
    if twice and is_first():
        print(f"set twice, and the last is used: {'; '.join(twice)}", file=sys.stderr)
    return list(kept.values())


def _as_typed(override: str) -> str:
    key, equals, value = override.partition("=")
    return f"{short(key.lstrip('+'))}{equals}{value}"


def chosen_groups(overrides: Sequence[str]) -> list[str]:
    """Refuse what Hydra cannot take for the option of a group, and leave out `experiment=null`.

    Args:
        overrides: with dotted keys; those of a command line, or of one run of a sweep.

    Raises:
        UserError: a group has no option, a number, or a plus before its name.
    """
    return [override for override in overrides if not _chooses_nothing(override)]


def _chooses_nothing(argument: str) -> bool:
    name, _, text = argument.partition("=")
    plain = name.lstrip("+")
    if name.startswith("+") and plain in groups():
        problem = f"expected no plus, since {plain} is known"
        raise UserError(f"{argument}: {problem}; write {plain}={text}")
    if plain.startswith("~") and plain[1:] in (*_SECTIONS, "logger"):
        nothing = NO_OPTION.get(plain[1:])
        hint = f"; write {plain[1:]}={nothing}" if nothing else ""
        raise UserError(f"{argument}: expected an option, since every run needs one{hint}")
    override = _parsed(argument) if name in groups() else None
    if override is None or override.type is not OverrideType.CHANGE:
        return False
    values = list(_values(override))
    if name in OPTIONAL_GROUPS and values == [None]:
        return True
    for value in values:
        if value is None and name in OPTIONAL_GROUPS:
            continue  # one run of a sweep has none
        if isinstance(value, list) and len(value) > 1 and name in _SECTIONS:
            joined = ",".join(map(str, value))
            raise UserError(f"{argument}: expected one option; to sweep write -m {name}={joined}")
        if not isinstance(value, str | list):
            raise UserError(explain_option(name, "null" if value is None else str(value)))
    return False


def for_custom_code(overrides: Sequence[str]) -> list[str]:
    """Let `model._target_=my_package.MyNet model.depth=5` do what it says.

    Hydra refuses keys that are not there yet, and would keep the settings of the usual network.

    Args:
        overrides: with dotted keys.

    Returns:
        The overrides that Hydra understands: `model=own` and `++model.depth=5`.
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
        result += [f"{section}=own"] * (section not in keys)
    return result


def key_of(override: str) -> str:
    """Return the key that an override sets; one that deletes has its `~`."""
    return override.partition("=")[0].lstrip("+")


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; `python train.py --hydra-help` lists the options")


def refuse_too_many_runs(overrides: Sequence[str]) -> None:
    """Refuse `seed=range(0,1e12)`, of which Hydra would make a list.

    Raises:
        UserError: these overrides make more runs than anyone wants.
    """
    parsed = [_parsed(text) for text in overrides if "," in text]
    runs = prod(_length(override) for override in parsed if override)
    if runs > _MOST_RUNS:
        count = f"{runs:,.0f}" if isfinite(runs) else "endlessly many"
        raise UserError(f"the sweep has {count} runs: expected at most {_MOST_RUNS:,}")


def range_values(sweep: RangeSweep) -> list[int | float]:
    """Return the numbers of a range as one would type them; the end is not among them.

    Hydra adds the binary fractions: 0.30000000000000004 in `range(0.1,0.5,0.1)`, which is another
    run than 0.3, and 0.05 in `range(0.01,0.05,0.01)`, which is its end.

    Args:
        sweep: a range with a step other than 0.

    Raises:
        UserError: it has no end.
    """
    start, stop, step = (Decimal(repr(x)) for x in (sweep.start, sweep.stop, sweep.step))
    if not (start.is_finite() and stop.is_finite() and step.is_finite()):
        raise UserError(f"range({start},{stop},{step}): expected finite numbers")
    count = ((stop - start) / step).to_integral_value(ROUND_CEILING)
    kind = int if all(isinstance(x, int) for x in (sweep.start, sweep.stop, sweep.step)) else float
    return [kind(start + place * step) for place in range(int(count))]


def with_exact_ranges(overrides: Sequence[Override]) -> list[Override]:
    """Put the numbers that `range_values` returns for each range. Args: overrides: parsed."""
    return [
        with_parsed_value(override, _listed(parsed_value(override)))
        if isinstance(parsed_value(override), RangeSweep) and parsed_value(override).step
        else override
        for override in overrides
    ]


def _listed(sweep: RangeSweep) -> ChoiceSweep:
    return ChoiceSweep(list=list(range_values(sweep)), tags=sweep.tags, shuffle=sweep.shuffle)


def refuse_other_sweeps(overrides: Sequence[Override], of_search: bool = False) -> None:
    """Refuse levels that Hydra can read and not sweep.

    Args:
        overrides: parsed.
        of_search: whether an interval may stand among them.

    Raises:
        UserError: an interval in a sweep, or a range in a list, with what to type instead.
    """
    for override in overrides:
        sweep, text = parsed_value(override), override.input_line
        if override.is_interval_sweep() and not of_search:
            raise UserError(
                f"{text}: expected a list or a range, since a sweep takes no number of an interval "
                "by itself; a search does: add hydra/sweeper=optuna"
            )
        parts = sweep.list if isinstance(sweep, ChoiceSweep) else []
        if any(isinstance(part, Sweep) for part in parts):
            levels: list[Any] = []
            for part in parts:
                levels += (
                    range_values(part) if isinstance(part, RangeSweep) and part.step else [part]
                )
            known = not any(isinstance(level, Sweep) for level in levels)
            typed = f"{short(override.get_key_element())}={','.join(map(str, levels))}"
            hint = f"; write {typed}" if known else ""
            raise UserError(f"{text}: expected one list or one range, not both{hint}")


def _length(override: Override) -> float:
    sweep = parsed_value(override)
    if isinstance(sweep, RangeSweep):
        start, stop, step = (float(x or 0) for x in (sweep.start, sweep.stop, sweep.step))
        return max(0.0, (stop - start) / step) if step else inf
    return len(sweep.list) if isinstance(sweep, ChoiceSweep) else 1


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except Exception:  # Hydra parses it again and tells what is wrong
        return None


def with_dotted_key(argument: str) -> str:
    """Do for one override what `with_dotted_keys` does for all."""
    name, equals, value = argument.partition("=")
    override = _parsed(argument) if name in SHORT_NAMES and equals else None
    if override is None:
        return argument
    numbers = [not _is_word(value) for value in _values(override)]
    if override.type is not OverrideType.CHANGE or not any(numbers):
        return argument
    if not all(numbers):
        raise UserError(f"{argument}: give either numbers or the names of levels, not both")
    return f"{SHORT_NAMES[name]}={value}"


def _is_word(value: Any) -> bool:
    words = value if isinstance(value, list) else [value]
    # the values of expressions are numbers, since a level has its name
    return all(isinstance(word, str) and not word.startswith("${") for word in words)


def _values(override: Override) -> Iterable[Any]:
    value = parsed_value(override)
    if isinstance(value, ChoiceSweep):
        return value.list
    if override.is_range_sweep() or override.is_interval_sweep():
        return [0.0]  # both are made of numbers alone
    return [] if override.is_sweep_override() else [override.value()]


def explain(error: Exception) -> str | None:
    """Return one or two lines on what is wrong with a command that was refused.

    What the error keeps alive is freed first, since there may be too little memory for a message.

    Args:
        error: its traceback stays readable.

    Returns:
        The message, or None if not the command but the program is wrong.
    """
    free_memory(error)
    if not _is_mistake(error):
        return None
    lines = printable(_explained(error)).splitlines()
    return "\n".join(line[:_LONGEST_LINE] + "..." * (len(line) > _LONGEST_LINE) for line in lines)


def _is_mistake(error: Exception) -> bool:
    # an OSError is a circumstance: a disk that is full or gone, a folder that is not the user's
    known = UserError | HydraException | OmegaConfBaseException | OSError
    if isinstance(error, known) or is_out_of_memory(error):
        return True
    # Hydra raises ValueError, OSError and others as well for what it cannot compose; then no line
    # of this package is among those that were running
    package = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    return not any(package in Path(frame.filename).parents for frame in frames)


def _explained(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    if is_out_of_memory(error):
        return TOO_LITTLE_MEMORY
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; what is done is kept, and the same command goes on"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: expected KEY=VALUE, such as lr=0.01; "
            "a value with special characters needs quotes: 'KEY=\"VALUE\"'"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        file = str(error.missing_cfg_file)
        group, _, option = file.rpartition("/")
        if file.partition("/")[0] in SHORT_NAMES:  # lr=1/10
            group, _, option = file.partition("/")
        if group:  # Hydra gives no options where several were chosen: logger=[tensorboard,wandb]
            return explain_option(group, option, error.options or ())
        return f"{option}.yaml: there is no such file in the configuration folders"
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return _explain_several(ambiguous[1])
    if again := re.search(r"An item is already at '(.*)'", str(error)):
        return f"+{again[1]}: expected no plus, since {again[1]} is known"
    if key := _refused_key(error):
        return explain_key(key)
    return in_words(error)


def _explain_several(override: str) -> str:
    key, _, values = override.partition("=")
    joined = re.sub(r"\s*,\s*", ",", values)
    problem = f"{_as_typed(override)}: several values are a sweep"
    if is_list(key):
        return f"{problem}; write {key}=[{joined}], or for a sweep over lists -m '{key}=[1],[1,2]'"
    return f"{problem}; write -m {shlex.quote(f'{short(key)}={joined}')}"


def _refused_key(error: Exception) -> str | None:
    match = re.search(r"(?:Could not override|specify|append|find) '\+?([\w./@-]+)'", str(error))
    if match:
        return match[1].rstrip(".")
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return str(cause.full_key)
    return None
