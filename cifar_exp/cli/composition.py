"""Extend how Hydra composes: short names in files, settings of some runs only, fast sweeps.

Hydra has no hook for this, so its methods are replaced.
"""

import json
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.default_element import GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.cli.hydra_private import (
    ConfigLoaderImpl,
    ConfigRepository,
    get_overrides_dirname,
    replaced,
)
from cifar_exp.config.keys import (
    NO_OPTION,
    OPTIONAL_GROUPS,
    SHORT_NAMES,
    explain_key,
    groups,
    kinds_with,
    known_keys,
    options,
    without_name,
)
from cifar_exp.errors import UserError
from cifar_exp.terminal import is_first

# Hydra's settings for the folder of a job, which are not used here: the value that disables each,
# and why it is ignored.
_IGNORED = {
    "run.dir": (".", "paths.results=FOLDER sets the folder of results"),
    "sweep.dir": ("${paths.results}/.hydra", "paths.results=FOLDER sets the folder of results"),
    "sweep.subdir": (".", "run folders are named after their settings"),
    "job.chdir": (None, "paths are relative to the current folder"),
}
# Hydra's defaults, for compositions without conf/config.yaml, as for --hydra-help
_HYDRA_DEFAULTS = (
    "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}",
    "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}",
    "${hydra.job.num}",
)
_NOT_GROUPS = ("hydra", "paths", "training")  # sections without options
_MAX_KEPT = 4096  # compositions of 14 kB, and overrides


@contextmanager
def adapted_composition() -> Iterator[None]:
    """Extend how Hydra composes while the block runs.

    - Files accept what the command line accepts: `lr: 0.1` in an experiment sets optimizer.lr. If
      Hydra would misread a line, the error contains the line to write.
    - A fixed setting is allowed with a swept group: `-m optimizer=sgd,rmsprop
      optimizer.momentum=0.5`. Hydra also applies it to the settings that all runs share, in which
      no option of the group is chosen. There it is left out; a run that lacks it is refused.
    - Settings of a sweep are refused in a single run.
    - Hydra neither creates a folder for a job nor changes to it.
    - Runs that choose the same options are composed from the files once; see `_Compositions`.
    - The registered settings are not copied each time Hydra lists a group, more than half the time
      of `--help`. Hydra copies those that it composes.

    The order is: `composed`; the files of the options, by Hydra's method, which calls `applied` for
    the options; `applied` for the other overrides. `_Compositions` keeps the result of the second.
    """
    compose = ConfigLoaderImpl._load_configuration_impl
    apply = ConfigLoaderImpl._apply_overrides_to_config
    load = ConfigRepository.load_config
    compositions = _Compositions(compose)
    # Whether the runs of a sweep share the composition in progress: the first one of -m. It holds
    # for all calls of `applied` in this composition, also while the files are composed.
    is_shared = False
    printed: set[str] = set()

    def composed(loader: Any, **kwargs: Any) -> DictConfig:
        nonlocal is_shared
        is_shared = kwargs["run_mode"] is RunMode.MULTIRUN
        try:
            config = compositions.compose(loader, **kwargs)
        # Any error: Hydra composes all again, since its messages refer to all overrides. So
        # `_Compositions.compose` must have no effects.
        except Exception:
            config = compose(loader, **kwargs)
        if config.hydra.mode is RunMode.RUN:  # in a run of a sweep it is MULTIRUN
            _refuse_unless_swept(config.hydra)
        _ignore_folders(config, printed)
        return config

    def applied(overrides: Sequence[Override], config: DictConfig) -> None:
        for override in overrides:
            try:
                apply([override], config)
            except ConfigCompositionException as error:
                if _adds_to_study(override, config):
                    continue
                if is_shared and not override.is_hydra_override():
                    continue
                if refusal := _lacks_setting(override, config):
                    raise refusal from error
                raise

    def loaded(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        try:
            file = load(self, config_path)
        except ValueError as error:  # in the defaults list; Hydra does not name the file
            raise UserError(f"{config_path}.yaml: {error}") from error
        except OSError as error:
            if "Invalid loaded object type" in str(error):  # OmegaConf read a number
                raise _no_settings(config_path, "a single value") from error
            raise
        if file is None or file.is_schema_source:
            return file
        if not isinstance(file.config, DictConfig):
            raise _no_settings(config_path, "a list")
        _adapt_file(file, config_path, self.group_exists)
        if config_path == "config":
            _add_groups_of_levels(file)
        return file

    with (
        replaced(ConfigLoaderImpl, _load_configuration_impl=composed),
        replaced(ConfigLoaderImpl, _apply_overrides_to_config=staticmethod(applied)),
        replaced(ConfigRepository, load_config=loaded),
        replaced(ConfigStore, __deepcopy__=lambda store, _: store),
    ):
        yield


class _Compositions:
    """The compositions of a command, for which the files of the same options are composed once.

    Hydra composes the files that the options of groups select, which takes 0.1 s, and then applies
    the other overrides in order. Here these are applied to a copy. This serves the runs of a sweep,
    and the two compositions of a single run: Hydra first composes to read `hydra.mode`.
    """

    def __init__(self, compose: Callable[..., DictConfig]) -> None:
        self._compose = compose  # Hydra's method
        self._parse = lru_cache(_MAX_KEPT)(OverridesParser.create().parse_override)
        self._from_files = lru_cache(_MAX_KEPT)(self._compose_files)
        self._files = lru_cache(_MAX_KEPT)(_files)

    def compose(
        self,
        loader: Any,
        config_name: str | None,
        overrides: Sequence[str],
        run_mode: RunMode,
        **_: Any,
    ) -> DictConfig:
        """Return what Hydra's method returns; if this method raises an exception, call Hydra's."""
        parsed = [self._parse(text) for text in overrides]
        paths = tuple(text for text in overrides if text.startswith("hydra.searchpath="))
        files = self._files(loader, config_name, paths)
        options, values = [], []
        for override in parsed:
            if override.is_sweep_override():
                if override.is_hydra_override() or run_mode is RunMode.RUN:
                    raise NotImplementedError  # Hydra refuses it
            elif _selects_files(override, files):
                options.append(override.input_line)
            else:
                values.append(override)
        # copy.deepcopy takes five times as long
        config: DictConfig = pickle.loads(self._from_files(loader, config_name, tuple(options)))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        _store_overrides(parsed, config.hydra)
        return config

    def _compose_files(
        self, loader: Any, config_name: str | None, overrides: tuple[str, ...]
    ) -> bytes:
        config = self._compose(
            loader, config_name=config_name, overrides=list(overrides), run_mode=RunMode.RUN
        )
        return pickle.dumps(config)


def _files(loader: Any, config_name: str | None, search_path: tuple[str, ...]) -> ConfigRepository:
    """Return the configuration files that Hydra finds with this `hydra.searchpath`."""
    _, files = loader._parse_overrides_and_create_caching_repo(config_name, list(search_path))
    return cast(ConfigRepository, files)


def _selects_files(override: Override, files: ConfigRepository) -> bool:
    """Return whether Hydra needs an override to compose the files: an option, or its setting."""
    key = override.key_or_group
    if key == "hydra":
        raise NotImplementedError  # overrides of Hydra's settings in an unusual order
    if override.is_hydra_override():
        return key != "hydra.mode"
    return files.group_exists(key) and not isinstance(override.value(), dict)


def _adds_to_study(override: Override, config: DictConfig) -> bool:
    """Add a key that the file of the selected study lacks; unknown ones are refused later."""
    key = override.key_or_group
    if not key.startswith("study.") or not isinstance(config.get("study"), DictConfig):
        return False
    if override.is_delete():
        section, _, _ = key.rpartition(".")
        found = OmegaConf.select(config, section)
        names = ", ".join(map(str, found)) if isinstance(found, DictConfig) else "no keys"
        raise UserError(f"~{key}: expected a key to delete, and {section} has {names}")
    with open_dict(config):
        OmegaConf.update(config, key, override.value(), force_add=True)
    return True


def _store_overrides(overrides: Sequence[Override], hydra: DictConfig) -> None:
    """Store overrides as Hydra does, for expressions such as `${hydra:job.override_dirname}`."""
    of_task = [override for override in overrides if not override.is_hydra_override()]
    hydra.overrides.task = [override.input_line for override in of_task]
    hydra.overrides.hydra = [o.input_line for o in overrides if o.is_hydra_override()]
    hydra.job.override_dirname = get_overrides_dirname(of_task, **hydra.job.config.override_dirname)


def _refuse_unless_swept(hydra: DictConfig) -> None:
    """Refuse launchers of jobs, searches and levels of a sweep, which a single run would ignore."""
    if "hydra.mode=RUN" in sys.argv:  # one run of an experiment that is a sweep
        return
    launcher = hydra.runtime.choices["hydra/launcher"]
    if launcher not in ("packed", "basic"):
        raise UserError(f"hydra/launcher={launcher}: expected a sweep; add -m")
    if hydra.runtime.choices["hydra/sweeper"] == "optuna":
        raise UserError("hydra/sweeper=optuna: expected a search; add -m")
    if (hydra.sweeper or {}).get("params"):
        raise UserError("hydra.sweeper.params: expected a sweep; add -m")


def _ignore_folders(config: DictConfig, printed: set[str]) -> None:
    """Disable Hydra's folders of jobs, with a warning for each setting that is not in `printed`."""
    for key, (disabled, reason) in _IGNORED.items():
        section, _, name = key.partition(".")
        settings: Any = OmegaConf.to_container(config.hydra[section])
        given = settings.get(name)
        if given in (disabled, False, *_HYDRA_DEFAULTS) or (
            key == "job.chdir" and given is not True
        ):
            continue
        if key not in printed and is_first():
            print(f"hydra.{key}={str(given).lower()}: ignored; {reason}", file=sys.stderr)
        printed.add(key)
        config.hydra[section][name] = disabled


def _lacks_setting(override: Override, config: DictConfig) -> UserError | None:
    """Return the error if the chosen option of a section lacks the key of an override."""
    key = override.key_or_group
    section = config.get(key.partition(".")[0])
    kind = section.get("name") if isinstance(section, DictConfig) else None
    if kind is None or kind in kinds_with(key) or not kinds_with(key):
        return None
    return UserError(explain_key(key, kind))


def _adapt_file(file: ConfigResult, path: str, group_exists: Callable[[str], bool]) -> None:
    """Refuse what Hydra would misread in a file, such as `experiment/mine`; expand short names."""
    group = path.rpartition("/")[0]
    if group.partition("/")[0] == "hydra":
        return
    for default in file.defaults_list or ():
        if isinstance(default, GroupDefault) and group and not default.package:
            _refuse_relative(default, path, group_exists)
    if group and file.header.get("package") != "_global_":
        return  # its keys are those of one section
    assert isinstance(file.config, DictConfig)
    content = OmegaConf.to_container(file.config)
    assert isinstance(content, dict)
    _refuse_misread_keys(content, path)
    _expand_short_names(file.config, content, path)


def _expand_short_names(config: DictConfig, content: dict[Any, Any], path: str) -> None:
    """Replace the short names in a file by dotted keys, and refuse options of other groups."""
    for name, value in content.items():
        if name not in groups() or isinstance(value, dict):
            continue
        is_text = isinstance(value, str) and "${" in value
        is_option = not is_text and value in options(name)
        if name in SHORT_NAMES:
            _replace_key(config, name, without_name(name, value), path)
        elif is_option or not (is_text or name in OPTIONAL_GROUPS):
            raise _misplaced(path, name, value)


def _refuse_misread_keys(content: dict[Any, Any], path: str) -> None:
    """Refuse `training: 3`, which would replace a section, and dotted keys."""
    for name, value in content.items():
        if name in _NOT_GROUPS and not isinstance(value, dict):
            raise UserError(
                f"{path}.yaml: {name}: expected settings, got {json.dumps(value)}. "
                f"Write `{name}: {{KEY: VALUE}}`."
            )
        if "." in str(name) and name in known_keys():
            section, _, key = name.partition(".")
            line = f"{section}: {{{key}: {json.dumps(value)}}}"
            raise UserError(f"{path}.yaml: {name}: expected nested keys. Write `{line}`.")


def _replace_key(config: DictConfig, name: str, value: Any, path: str) -> None:
    """Set `optimizer.lr` instead of `lr`."""
    key = SHORT_NAMES[name]
    if OmegaConf.select(config, key) is not None:
        raise UserError(f"{path}.yaml: {name} and {key} set the same. Remove one of them.")
    with open_dict(config):
        del config[name]
        OmegaConf.update(config, key, value, force_add=True)


def _add_groups_of_levels(file: ConfigResult) -> None:
    """Add each group of levels to the defaults of config.yaml, so that one can be chosen."""
    defaults = file.defaults_list or []
    named = {default.group for default in defaults if isinstance(default, GroupDefault)}
    defaults.extend(GroupDefault(group=name) for name in SHORT_NAMES if name not in named)


def _refuse_relative(default: GroupDefault, path: str, group_exists: Callable[[str], bool]) -> None:
    """Refuse `optimizer: sgd` in an experiment, which Hydra reads as experiment/optimizer."""
    assert default.group is not None
    name, value = default.group.removeprefix("/"), default.value
    if name in SHORT_NAMES:
        if isinstance(value, str):
            line = f"{name}: {value}"  # Hydra composes levels after the file
            raise UserError(f"{path}.yaml: {line}: write `{line}` below its `defaults`")
        return
    is_group = name in groups()
    if isinstance(value, str):
        is_absolute = default.override and default.group.startswith("/")
        is_misread = (is_group or name.startswith("hydra/")) and not is_absolute
        is_misread = is_misread and not group_exists(f"{path.rpartition('/')[0]}/{name}")
    else:  # no option, or a list, which Hydra reports
        is_misread = value is None and is_group and name not in OPTIONAL_GROUPS
    if is_misread:
        raise _misplaced(path, name, value)


def _no_settings(path: str, given: str) -> UserError:
    return UserError(f"{path}.yaml: expected settings, got {given}. Write lines such as `lr: 0.1`.")


def _misplaced(path: str, name: str, value: Any) -> UserError:
    """Return the error for an option of a group that is not chosen in the defaults list."""
    if isinstance(value, str | list):
        given = option = str(value).replace("'", "")
    else:
        given = json.dumps(value)
        option = "OPTION" if value else NO_OPTION.get(name, "OPTION")
    hint = f", with OPTION one of {', '.join(options(name))}" if option == "OPTION" else ""
    group = path.rpartition("/")[0]
    line = f"- override /{name}: {option}" if group else f"- {name}: {option}"
    if name == group:
        line = f"- {option}"
    return UserError(
        f"{path}.yaml: {name}: {given}: write `{line}` at the end of its `defaults`{hint}"
    )
