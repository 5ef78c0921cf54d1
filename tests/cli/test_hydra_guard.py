"""Configurations from elsewhere cannot run code that the user has not allowed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cifar_exp.cli.hydra_guard import only_allowed, split_allowed
from cifar_exp.config.load import load_config
from cifar_exp.errors import UserError
from tests.conftest import TINY, CommandLine

CONF = Path(__file__).parents[2] / "conf"
# A function that Hydra's list of refused names lacks.
LOAD = "torch.optim.sgd.torch.load"


class Stranger:
    """Compose `experiment=theirs` as train.py does, with a file that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "experiment").mkdir()

    def write(self, content: dict[str, Any], name: str = "experiment/theirs") -> None:
        text = "# @package _global_\n" + yaml.safe_dump(content)
        (self.folder / f"{name}.yaml").write_text(text)

    def compose(self, *allowed: str, typed: Sequence[str] = ()) -> DictConfig:
        overrides = ["experiment=theirs", f"hydra.searchpath=[file://{self.folder}]", *typed]
        with initialize_config_dir(str(CONF), version_base="1.3"), only_allowed(allowed):
            return compose("config", overrides)


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    return Stranger(tmp_path)


def logging(**content: Any) -> dict[str, Any]:
    return {"hydra": {"job_logging": {"version": 1, **content}}}


# By case: the name that has to be allowed, and the content of a file.
CODE: dict[str, tuple[str, dict[str, Any]]] = {
    "a callback": (LOAD, {"hydra": {"callbacks": {"x": {"_target_": LOAD}}}}),
    "a launcher": (LOAD, {"hydra": {"launcher": {"_target_": LOAD}}}),
    "nested in a sweeper": (LOAD, {"hydra": {"sweeper": {"params": {"x": {"_target_": LOAD}}}}}),
    "in a list": (LOAD, {"hydra": {"callbacks": {"x": {"y": [{"z": {"_target_": LOAD}}]}}}}),
    "by reference": (
        LOAD,
        {"function": LOAD, "hydra": {"callbacks": {"x": {"_target_": "${function}"}}}},
    ),
    "a whole node by reference": (
        LOAD,
        {"node": {"_target_": LOAD}, "hydra": {"callbacks": {"x": "${node}"}}},
    ),
    "made by a resolver": (
        LOAD,
        {"hydra": {"callbacks": {"x": f"${{oc.create:'_target_: {LOAD}'}}"}}},
    ),
    "resolved during a run": (
        LOAD,
        {"hydra": {"job": {"name": LOAD}, "callbacks": {"x": {"_target_": "${hydra:job.name}"}}}},
    ),
    "in the run's own settings": (LOAD, {"model": {"_target_": LOAD}}),
    "not a name": ("[]", {"model": {"_target_": []}}),
    "a handler's factory": (LOAD, logging(handlers={"h": {"()": LOAD}})),
    "a handler's class": (
        "logging.handlers.SocketHandler",
        logging(handlers={"h": {"class": "logging.handlers.SocketHandler"}}),
    ),
    "a filter": (LOAD, logging(filters={"f": {"()": LOAD}})),
    "an object of a module": (
        "ext://antigravity.x",
        logging(
            handlers={"h": {"class": "logging.StreamHandler", "stream": "ext://antigravity.x"}}
        ),
    ),
    "a variable that decides which programs run": (
        "PATH",
        {"hydra": {"job": {"env_set": {"PATH": "theirs"}}}},
    ),
}


@pytest.mark.parametrize("case", CODE)
def test_code_that_a_file_names_is_refused_unless_the_user_allows_it(
    stranger: Stranger, case: str
) -> None:
    name, content = CODE[case]
    stranger.write(content)
    with pytest.raises(UserError) as error:
        stranger.compose("torch.load", f"{name}.x", name[:-1])  # similar names
    assert f"{name} can run any code. If you trust it, add --allow {name}" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    stranger.compose(name)


@pytest.mark.parametrize(
    "content",
    [
        {"model": f"${{oc.create:'_target_: {LOAD}'}}"},
        {"model": "${other}", "other": {"_target_": LOAD}},
        {"model": {"_target_": "${function}"}, "function": LOAD},
        {"data": {"_target_": "${oc.select:names.${hydra:job.num}}"}, "names": [LOAD, "x.y"]},
    ],
)
def test_an_expression_cannot_name_the_code_of_a_network_or_of_data(
    stranger: Stranger, content: dict[str, Any]
) -> None:
    # the composition is allowed, since the expression is not resolved yet
    defaults = [{f"override /{section}": None} for section in ("model", "data")]
    stranger.write({"defaults": defaults} | content)
    composed = stranger.compose(LOAD)
    section = "data" if "data" in content else "model"
    for number in (0, 1):
        HydraConfig.instance().cfg = OmegaConf.create({"hydra": {"job": {"num": number}}})
        with pytest.raises(
            UserError, match=rf"^{section}\._target_: expected a name, not an expression"
        ):
            load_config(composed)


def test_a_package_in_the_search_path_of_a_file_is_not_imported(stranger: Stranger) -> None:
    stranger.write({"hydra": {"searchpath": ["pkg://antigravity"]}}, "theirs")
    (stranger.folder / "config.yaml").symlink_to(stranger.folder / "theirs.yaml")
    with (
        initialize_config_dir(str(stranger.folder), version_base="1.3"),
        only_allowed(()),
        pytest.raises(UserError, match=r"hydra\.searchpath: pkg://antigravity can run any code"),
    ):
        compose("config")


@pytest.fixture
def installed_plugin() -> Iterator[str]:
    """Register a launcher with nested targets in Python, as Optuna's plugin does."""
    store = ConfigStore.instance()
    name = "hydra_plugins.mine.MyLauncher"
    store.store("mine", {"_target_": name, "inner": {"_target_": "mine.Inner"}}, "hydra/launcher")
    yield name
    del store.repo["hydra"]["launcher"]["mine.yaml"]


def test_code_that_installed_plugins_registered_is_allowed(
    stranger: Stranger, installed_plugin: str
) -> None:
    stranger.write({"seed": 1})
    stranger.compose(typed=["hydra/launcher=mine"])
    stranger.write({"hydra": {"launcher": {"other": {"_target_": "mine.Other"}}}})
    with pytest.raises(UserError, match=r"hydra\.launcher\.other\._target_: mine\.Other can run"):
        stranger.compose(typed=["hydra/launcher=mine"])


def test_logging_to_the_screen_and_to_files_is_allowed(stranger: Stranger) -> None:
    defaults = [{"override /hydra/job_logging": "default"}]
    stranger.write({"defaults": [*defaults, {"override /hydra/hydra_logging": "hydra_debug"}]})
    stranger.compose()


@pytest.mark.parametrize(
    ("typed", "allowed"),
    [
        (["--allow", "a.B", "seed=1"], {"a.B"}),
        (["seed=1", "--allow=a.B", "--allow", "c.D"], {"a.B", "c.D"}),
        (["seed=1", "model._target_=a.B"], {"a.B"}),
        (["seed=1", "+x.y._target_='a.B'"], {"a.B"}),
        (["seed=1", "model._target_=a.B,c.D"], {"a.B", "c.D"}),
        (["seed=1", "+x={y: [{_target_: a.B}]}"], {"a.B"}),
        (["seed=1", "hydra.job.env_set.PATH=x"], {"PATH"}),
        (["seed=1", "model._target_={"], set()),
        (["seed=1", "--config-name", "_target_"], set()),
    ],
)
def test_names_are_allowed_by_an_option_or_an_override(typed: list[str], allowed: set[str]) -> None:
    others, names = split_allowed(typed)
    assert names == allowed
    assert others == [word for word in typed if "--allow" not in word and word not in allowed]


@pytest.mark.parametrize("extra", ["slurm", "ray"])
def test_the_error_for_a_launcher_without_its_plugin_contains_the_extra(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", {})  # no plugin
    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        only_allowed(()),
        pytest.raises(UserError, match=rf"Run pip install -e '\.\[{extra}\]'"),
    ):
        compose("config", [f"hydra/launcher={extra}"])


@pytest.mark.parametrize("mode", [(), ("-m", "seed=0,1"), ("-m", "hydra/launcher=basic")])
def test_the_command_line_runs_no_code_from_elsewhere(
    train: CommandLine, mode: tuple[str, ...]
) -> None:
    ran = train.folder / "ran"
    stranger = Stranger(train.folder)
    callback = {"_target_": "logging.FileHandler", "filename": str(ran)}
    stranger.write({"hydra": {"callbacks": {"x": callback}}})
    typed = ("--config-dir", str(train.folder), "experiment=theirs", *mode)
    output = train(*typed, *TINY, status=1)
    key = "hydra.callbacks.x._target_"
    hint = "If you trust it, add --allow logging.FileHandler"
    assert output == f"{key}: logging.FileHandler can run any code. {hint}\n"
    assert not ran.exists()
    assert not train.runs.exists()
    if not mode:  # with --allow the callback runs
        train.start(
            *typed, *TINY, "training.epochs=x", "--allow", "logging.FileHandler"
        ).communicate()
        assert ran.exists()


def test_a_level_of_a_study_cannot_name_code(train: CommandLine) -> None:
    (train.folder / "study").mkdir()
    vary = {"+hydra.callbacks.x._target_": [LOAD]}
    study = {"name": "theirs", "title": "T", "question": "Q?", "vary": vary}
    (train.folder / "study" / "theirs.yaml").write_text(yaml.safe_dump(study))
    output = train("--config-dir", str(train.folder), "study=theirs", *TINY, status=1)
    assert f"{LOAD} can run any code" in output


def test_a_pickle_is_not_loaded(train: CommandLine) -> None:
    output = train("--experimental-rerun", "theirs.pickle", status=1)
    assert "expected no pickle, since loading one can run any code" in output
