"""What the command line adds to Hydra: numbers for groups, and messages one can act on."""

import difflib
import re
import traceback
import types
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf, isfinite, prod
from pathlib import Path
from typing import Any, NoReturn, get_args

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, RangeSweep
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from cifar_exp.config.schema import CAN_BE_OWN, RunConfig
from cifar_exp.config.targets import in_words, only_allowed, split_allowed
from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import (
    TOO_LITTLE_MEMORY,
    free_memory,
    is_out_of_memory,
    keep_reserve,
)
from cifar_exp.terminal import printable

# Each is a group of levels with names, and the short name of the number they set.
SHORT_NAMES = {
    "lr": "optimizer.lr",
    "weight_decay": "optimizer.weight_decay",
    "batch_size": "data.batch_size",
    "dropout": "model.dropout",
    "epochs": "training.epochs",
}
# Whether a launcher shows the settings of a sweep's runs, and trains none.
shows_settings: ContextVar[bool] = ContextVar("shows_settings", default=False)
_CONF = Path(__file__).parents[2] / "conf"
_MOST_RUNS = 10_000  # of a sweep
_LONGEST_LINE = 500  # characters of a message
_LONGEST_MISSPELT = 100


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
    with only_allowed(trusted), warnings.catch_warnings():
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
        _refuse(f"{unknown[0]}: there is no such option")
    if known.experimental_rerun is not None:
        _refuse("--experimental-rerun: expected no pickle, since loading one can run any code")
    modes = [known.run, known.multirun, known.cfg, known.info, known.shell_completion]
    if sum(map(bool, modes)) > 1:
        _refuse("expected one of --run, --multirun, --cfg, --info and --shell-completion")
    options = [argument for argument in arguments if argument not in known.overrides]
    if options and options[-1] in ("--info", "-i"):
        options.append("all")  # else Hydra takes the first override for what it shall tell
    if any(override.startswith("study=") for override in known.overrides):
        if known.run:
            _refuse("study: expected no --run, since a study is a sweep")
        options += ["--multirun"] * (not any(modes))
    return options + for_own_code([with_dotted_key(override) for override in known.overrides])


def for_own_code(overrides: Sequence[str]) -> list[str]:
    """Let `model._target_=my_package.MyNet model.depth=5` do what it says.

    Hydra refuses keys that are not there yet, and would keep the settings of the usual network.

    Args:
        overrides: with dotted keys.

    Returns:
        The overrides that Hydra understands: `model=own` and `++model.depth=5`.
    """
    result = list(overrides)
    for section in CAN_BE_OWN:
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


def _length(override: Override) -> float:
    sweep = override._value
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
    if isinstance(override._value, ChoiceSweep):
        return override._value.list
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
        return _explain_option(error)
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", str(error)):
        return f"{ambiguous[1]}: several values are a sweep; say so with -m"
    if key := _refused_key(error):
        return _explain_key(key)
    return in_words(error)


def _explain_key(key: str) -> str:
    if key in known_keys() and "." in key:
        section = key.partition(".")[0]
        return f"{key}: the chosen {section} has no such setting; choose another with {section}=..."
    hint = _nearest(key, known_keys()) or "; `python train.py --cfg job` lists them"
    return f"{key}: there is no such setting{hint}"


def _explain_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return f"{option}.yaml: there is no such file in the folders of configurations"
    # Hydra tells none where several were chosen: logger=[tensorboard,wandb]
    options = sorted(error.options or _options(group))
    expected = ", ".join(options) or "no option"
    number = "a number or " if group in SHORT_NAMES else ""
    hint = _nearest(option, options)
    return f"{group}={option}: expected {number}one of {expected}{hint}"


def _options(group: str) -> list[str]:
    return [file.stem for file in (_CONF / group).glob("*.yaml")]


def _refused_key(error: Exception) -> str | None:
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return str(cause.full_key)
    match = re.search(r"(?:Could not override|specify|append|find) '\+?([\w./@-]+)'", str(error))
    return match[1].rstrip(".") if match else None


def _nearest(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean ...?" or nothing. The last part of a dotted key is tried as well."""
    if len(word) > _LONGEST_MISSPELT:
        return ""  # to compare it would take seconds
    names = list(candidates)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    last = {name.split(".")[-1]: name for name in names}
    for near in difflib.get_close_matches(word.split(".")[-1], last, n=1, cutoff=0.75):
        close.append(last[near])
    return f"; did you mean {close[0]}?" if close else ""


def known_keys() -> list[str]:
    """Return every key one can set: dotted keys, groups and short names."""
    groups = [folder.name for folder in _CONF.glob("*") if folder.is_dir()]
    return sorted({*_keys(RunConfig), *SHORT_NAMES, *groups})


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = get_args(field.annotation) if _is_union(field.annotation) else (field.annotation,)
        sections = [
            kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not sections:
            yield prefix + (field.alias or name)
        for section in sections:
            yield from _keys(section, f"{prefix}{name}.")


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType)
