"""Adapt Hydra to this project, and translate the options of `train.py`."""

import os
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from hydra.types import RunMode
from omegaconf import DictConfig

from cifar_exp.cli.composition import adapted_composition
from cifar_exp.cli.hydra_guard import only_allowed, split_allowed
from cifar_exp.cli.hydra_private import Hydra, get_args_parser, replaced
from cifar_exp.cli.overrides import key_of, translate_overrides
from cifar_exp.config.keys import known_keys, nearest_key
from cifar_exp.config.load import trains_a_run
from cifar_exp.errors import UserError
from cifar_exp.out_of_memory import keep_reserve

_IS_SWEEP = "hydra.mode=MULTIRUN"  # the override that Hydra adds for -m


@contextmanager
def adapted_hydra(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Adapt Hydra while the block runs, and translate a command line for it.

    Args:
        arguments: the command line without the program.

    Yields:
        The command line for Hydra; see `translate`.

    Raises:
        UserError: an option or an override is invalid, or the current folder was deleted.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("The current folder was deleted. Change to another folder.") from error
    keep_reserve()
    arguments, trusted = split_allowed(arguments)
    adapted = adapted_composition()
    with adapted, only_allowed(trusted), _shown_sweeps(), warnings.catch_warnings():
        # conf/hydra/launcher/ray.yaml replaces the option of the same name in Ray's plugin
        warnings.filterwarnings("ignore", r"\s*'hydra/launcher/ray' is validated", UserWarning)
        yield translate(arguments)


@trains_a_run
def show_settings(composed: DictConfig) -> None:
    """Mark a sweep whose launcher prints the settings of the first run and trains nothing."""


@contextmanager
def _shown_sweeps() -> Iterator[None]:
    """Let `--cfg job` show the first run of a sweep while the block runs.

    Hydra would show the settings that all runs share. A sweep is typed with -m, or its composed
    experiment contains `hydra: {mode: MULTIRUN}`.
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
        is_typed = _IS_SWEEP in overrides
        mode = RunMode.MULTIRUN if is_typed else RunMode.RUN
        config = self.compose_config(config_name, overrides, run_mode=mode)
        is_search = config.hydra.runtime.choices.get("hydra/sweeper") == "optuna"
        if cfg_type == "job" and is_search and is_typed:
            raise UserError(
                "--cfg job: expected no -m in a search, whose trials are not chosen yet; "
                "leave out -m to see the settings that they share"
            )
        if cfg_type == "job" and config.hydra.mode is RunMode.MULTIRUN and not is_search:
            if package not in (None, "_global_"):
                raise UserError(
                    f"--package {package}: expected a single run. Leave out --package, since "
                    "--cfg job shows all settings of the first run of a sweep."
                )
            self.multirun(config_name, show_settings, overrides)
        else:
            show(self, config_name, overrides, cfg_type, package, resolve)

    with replaced(Hydra, show_cfg=shown):
        yield


def translate(arguments: Sequence[str]) -> list[str]:
    """Translate a command line into one that Hydra accepts.

    Args:
        arguments: the command line without the program.

    Returns:
        The options, then the overrides; see `translate_overrides`. `study=NAME` is a sweep.

    Raises:
        UserError: an option or an override is invalid.
    """
    parser = get_args_parser()
    parser.add_argument("--plan", action="store_true")
    parser.error = _refuse  # type: ignore[method-assign]
    # intermixed: options are allowed between overrides
    known, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        _refuse_option(unknown[0], arguments)
    is_study = any(override.startswith("study=") for override in known.overrides)
    _check_options(known, is_study)
    overrides = translate_overrides(known.overrides, bool(known.config_dir))
    if known.plan:
        overrides = [*(word for word in overrides if key_of(word) != "plan"), "++plan=true"]
    options = [word for word in arguments if word not in (*known.overrides, "--plan")]
    if options and options[-1] in ("--info", "-i"):
        options.append("all")  # else Hydra takes the first override for the argument of --info
    if known.cfg == "job" and (is_study or known.multirun):  # Hydra accepts --cfg only without -m
        options = [option for option in options if option not in ("-m", "--multirun")]
        overrides.append(_IS_SWEEP)
    elif is_study and not any(_modes(known)):
        options.append("--multirun")
    return options + overrides


def _check_options(known: Namespace, is_study: bool) -> None:
    """Refuse options that are not allowed, or not together."""
    if known.experimental_rerun is not None:
        _refuse("--experimental-rerun: expected no pickle, since loading one can run any code")
    if known.package and not known.cfg:
        _refuse(f"--package {known.package}: expected --cfg as well")
    if known.multirun and known.cfg and known.cfg != "job":
        _refuse(f"--cfg {known.cfg}: expected --cfg job with -m")
    if sum(_modes(known)) > 1:
        _refuse("expected only one of --run, --multirun, --cfg, --info and --shell-completion")
    if is_study and known.run:
        _refuse("study: expected no --run, since a study is a sweep")


def _modes(known: Namespace) -> list[bool]:
    """Return which modes of Hydra are chosen; --cfg job may be combined with -m."""
    is_sweep = known.multirun and known.cfg != "job"
    modes = [known.run, is_sweep, known.cfg, known.info, known.shell_completion]
    return [bool(mode) for mode in modes]


def _refuse_option(option: str, arguments: Sequence[str]) -> NoReturn:
    """Refuse an unknown option, with the setting to type if its name is similar."""
    name, _, value = option.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if key not in known_keys():
        key = nearest_key(key)
    if not key or len(name) < 2:
        _refuse(f"{option}: unknown option")
    if not value and option in arguments:  # in "-mlr=0.1" it is a part of a word
        following = arguments[arguments.index(option) + 1 :][:1]
        value = next((word for word in following if "=" not in word), "")
    raise UserError(f"{option}: expected a setting without dashes; write {key}={value or 'VALUE'}")


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}; `python train.py --hydra-help` lists the options")
