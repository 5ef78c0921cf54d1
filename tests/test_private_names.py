"""Private names of other packages are used in one file each, and still exist."""

import importlib
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.cli.hydra_private import ConfigLoaderImpl, ConfigRepository
from tests.conftest import ROOT

# The file that may use each private name.
FILES = {
    r"hydra\._internal(?!\.core_plugins)": {"cli/hydra_private.py"},
    r"core_plugins\.basic_sweeper": {"cli/study_sweeper.py"},
    r"core_plugins\.basic_launcher": {"cli/sweep_launcher.py"},
    r"\._value\b|\b_value=": {"cli/hydra_private.py"},
    r"\._convert_value\b": {"cli/hydra_private.py"},
    r"\._set_flag\b": {"cli/hydra_private.py"},
    r"\._load_configuration_impl\b|\._apply_overrides_to_config\b": {"cli/composition.py"},
    r"\._parse_overrides_and_create_caching_repo\b": {"cli/composition.py"},
    r"\._trial_id\b|_study\._storage\b": {"search/trials.py"},
    r"\b_next_step\b": {"loggers/trackio.py"},
    r"__dynamo_disable\b": {"training/optimizers.py"},
}


@pytest.mark.parametrize("name", FILES)
def test_a_private_name_is_used_in_one_file(name: str) -> None:
    package = ROOT / "cifar_exp"
    using = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(name, path.read_text("utf-8"))
    }
    assert using == FILES[name]


def assert_has(owner: Any, *names: str) -> None:
    """Check that private names exist."""
    for name in names:
        assert hasattr(owner, name), (
            f"{owner!r} has no attribute {name}, which cifar_exp uses. See FILES, or limit the "
            "version in pyproject.toml."
        )


def test_hydra_still_has_the_private_names() -> None:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

    assert_has(ConfigLoaderImpl, "_load_configuration_impl", "_apply_overrides_to_config")
    assert_has(ConfigLoaderImpl, "_parse_overrides_and_create_caching_repo")
    assert_has(ConfigLoaderImpl, "load_configuration", "load_sweep_config")
    assert_has(ConfigRepository, "load_config", "group_exists")
    assert_has(Override, "_convert_value")
    assert_has(DictConfig, "_set_flag")
    assert "_value" in {field.name for field in fields(Override)}


def test_optuna_still_has_the_private_names(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'trials.db'}")
    assert_has(study, "_storage")
    assert_has(study._storage, "get_trial_system_attrs", "set_trial_system_attr")
    trial = study.ask()
    assert_has(trial, "_trial_id")
    assert_has(study.get_trials()[0], "_trial_id")
    # stored values are suggested again
    study._storage.set_trial_system_attr(trial._trial_id, "fixed_params", {"x": 0.25})
    assert optuna.Trial(study, trial._trial_id).suggest_float("x", 0.0, 1.0) == 0.25
    study._storage.remove_session()
    study._storage._backend.engine.dispose()


def test_trackio_still_has_the_private_name() -> None:
    pytest.importorskip("trackio")
    source = importlib.import_module("trackio.run")
    assert "_next_step" in Path(str(source.__file__)).read_text("utf-8"), (
        "trackio's Run has no attribute _next_step. See cifar_exp/loggers/trackio.py."
    )
