"""Extended composition: short names in files, and settings that only some runs have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from cifar_exp.cli import composition
from cifar_exp.cli.command_line import adapted_hydra
from cifar_exp.cli.packed_launcher import PackedLauncher
from cifar_exp.config.load import load_config
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.optimizers import Sgd
from cifar_exp.schedulers import Constant
from train import run

CONF = Path(__file__).parents[2] / "conf"


class Files:
    """Experiments that a test writes and composes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "experiment").mkdir()

    def write(self, name: str, content: Any) -> None:
        text = "# @package _global_\n" + yaml.safe_dump(content)
        (self._folder / "experiment" / f"{name}.yaml").write_text(text)

    def run(self, *typed: str) -> RunConfig:
        """Return the settings of a single run."""
        with adapted_hydra(typed) as words, initialize_config_dir(str(CONF), version_base="1.3"):
            return load_config(compose("config", [*words, self._search_path]))

    def run_of_sweep(self, shared: Sequence[str], overrides: Sequence[str]) -> Any:
        """Compose a run of a sweep, after the settings that all its runs share."""
        with adapted_hydra(shared) as words, initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            words = [*words, self._search_path]
            sweep = loader.load_configuration("config", words, RunMode.MULTIRUN)
            return loader.load_sweep_config(sweep, [*overrides])

    def composed(self, shared: Sequence[str], runs: Sequence[Sequence[str]]) -> list[Any]:
        """Compose a sweep; return the composed and the checked settings or the error of each."""
        results: list[Any] = []
        launcher = PackedLauncher()
        with adapted_hydra(shared) as words, initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            sweep = loader.load_configuration(
                "config", [*words, self._search_path], RunMode.MULTIRUN
            )
            context = HydraContext(loader, Callbacks())
            launcher.setup(hydra_context=context, task_function=run, config=sweep)
            results.append(OmegaConf.to_container(sweep))

            def recorded(*given: Any) -> Any:
                composed = loader.load_sweep_config(*given)
                results.append(OmegaConf.to_container(composed))
                return composed

            launcher._composes = recorded
            for overrides in runs:
                try:
                    results.append(launcher.compose(overrides))
                except UserError as error:
                    results.append(str(error))
        return results

    @property
    def _search_path(self) -> str:
        return f"hydra.searchpath=[file://{self._folder}]"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_fixed_setting_is_allowed_with_a_swept_group(files: Files) -> None:
    shared = ["optimizer=sgd,rmsprop", "optimizer.momentum=0.5"]
    for optimizer in ("sgd", "rmsprop"):
        overrides = [f"optimizer={optimizer}", "optimizer.momentum=0.5"]
        assert files.run_of_sweep(shared, overrides).optimizer.momentum == 0.5


def test_a_fixed_setting_is_allowed_with_swept_experiments(files: Files) -> None:
    files.write("mine", {"defaults": [{"override /data": "synthetic"}]})
    shared = ["experiment=mine,demo", "data.train_size=60"]
    for experiment in ("mine", "demo"):
        overrides = [f"experiment={experiment}", "data.train_size=60"]
        assert files.run_of_sweep(shared, overrides).data.train_size == 60


def test_a_run_that_lacks_the_setting_is_refused_with_the_name_of_its_option(files: Files) -> None:
    message = "scheduler=cosine does not have this setting; choose scheduler=multistep"
    shared = ["scheduler=cosine,multistep", "scheduler.gamma=0.1"]
    with pytest.raises(UserError, match=message):
        files.run_of_sweep(shared, ["scheduler=cosine", "scheduler.gamma=0.1"])


def test_short_names_in_a_file_mean_the_same_as_on_the_command_line(files: Files) -> None:
    files.write("mine", {"lr": 0.3, "epochs": 3, "batch_size": 32})
    config = files.run("experiment=mine")
    assert (config.optimizer.lr, config.training.epochs, config.data.batch_size) == (0.3, 3, 32)
    # overrides replace settings of the file, as a number and as a level
    assert files.run("experiment=mine", "lr=0.2").optimizer.lr == 0.2
    assert files.run("experiment=mine", "lr=high").optimizer.lr == 0.01
    assert files.run("experiment=mine", "optimizer=sgd").optimizer == Sgd(lr=0.3)


def test_a_file_can_name_a_level(files: Files) -> None:
    files.write("mine", {"lr": "high", "epochs": "short"})
    config = files.run("experiment=mine", "optimizer=sgd")
    assert (config.optimizer.lr, config.training.epochs) == (0.01, 10)
    for key in ("/lr", "lr", "override /lr", "override lr"):
        files.write("mine", {"defaults": ["demo", {key: "high"}]})
        with pytest.raises(UserError, match=r"mine\.yaml: lr: high: write `lr: high` below its"):
            files.run("experiment=mine")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"defaults": ["demo", {"optimizer": "sgd"}]}, "- override /optimizer: sgd"),
        ({"defaults": ["demo", {"/optimizer": "sgd"}]}, "- override /optimizer: sgd"),
        ({"defaults": ["demo", {"override optimizer": "sgd"}]}, "- override /optimizer: sgd"),
        ({"defaults": [{"override hydra/launcher": "basic"}]}, "- override /hydra/launcher: basic"),
        ({"defaults": [{"experiment": "demo"}]}, "- demo"),
        ({"optimizer": "sgd"}, "- override /optimizer: sgd"),
        ({"logger": None}, "- override /logger: none"),
        ({"logger": False}, "- override /logger: none"),
        ({"logger": ["wandb", "mlflow"]}, "- override /logger: [wandb, mlflow]"),
        ({"scheduler": None}, "- override /scheduler: constant"),
        ({"defaults": [{"override /scheduler": None}]}, "- override /scheduler: constant"),
        ({"defaults": ["demo", {"logger": None}]}, "- override /logger: none"),
        ({"optimizer": None}, "- override /optimizer: OPTION"),
        ({"defaults": [{"override /model": None}]}, "- override /model: OPTION"),
    ],
)
def test_a_misplaced_option_in_a_file_is_refused_with_the_line_to_write(
    files: Files, content: dict[str, Any], line: str
) -> None:
    files.write("mine", content)
    with pytest.raises(UserError) as refused:
        files.run("experiment=mine")
    assert str(refused.value).startswith("experiment/mine.yaml: ")
    assert f"write `{line}` at the end of its `defaults`" in str(refused.value)
    assert ("with OPTION one of " in str(refused.value)) == line.endswith("OPTION")


def test_the_line_to_write_works(files: Files) -> None:
    files.write("mine", {"defaults": ["demo", {"override /scheduler": "constant"}]})
    assert files.run("experiment=mine").scheduler == Constant()


def test_the_error_for_a_number_in_the_defaults_contains_the_file(files: Files) -> None:
    files.write("mine", {"defaults": [{"override /lr": 0.1}]})
    with pytest.raises(UserError, match=r"experiment/mine\.yaml: Unsupported item value"):
        files.run("experiment=mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a"], r"expected settings, got a list\. Write lines such as `lr: 0\.1`\."),
        (5, r"expected settings, got a single value\."),
        ({"training": None}, "training: expected settings, got null"),
        ({"hydra": [1]}, r"hydra: expected settings, got \[1\]"),
        ({"training.epochs": 7}, r"training\.epochs: expected nested keys\. Write `training: {epo"),
        ({"lr": 0.1, "optimizer": {"lr": 0.2}}, "lr and optimizer.lr set the same"),
    ],
)
def test_a_file_that_hydra_would_misread_is_named(files: Files, content: Any, message: str) -> None:
    files.write("mine", content)
    with pytest.raises(UserError, match=rf"^experiment/mine\.yaml: {message}"):
        files.run("experiment=mine")


def test_a_file_that_selects_itself_is_refused(files: Files) -> None:
    files.write("mine", {"defaults": ["mine"]})
    with pytest.raises(ConfigCompositionException, match=r"^a file refers to itself"):
        files.run("experiment=mine")


def test_an_unknown_key_in_a_file_is_refused_with_a_hint(files: Files) -> None:
    files.write("mine", {"optimizer": {"momentum": 0.9}})
    with pytest.raises(
        UserError, match="optimizer=adam does not have this setting; choose optimizer=sgd"
    ):
        files.run("experiment=mine")
    files.write("mine", {"training": {"epoch": 3}})
    with pytest.raises(UserError, match=r"unknown setting; did you mean training\.epochs"):
        files.run("experiment=mine")


def test_an_experiment_can_be_null(files: Files) -> None:
    assert files.run("experiment=null", "seed=3") == RunConfig(seed=3)


def test_hydra_creates_no_folder_for_a_run_and_does_not_change_to_it(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    with adapted_hydra([]), initialize_config_dir(str(CONF), version_base="1.3"):
        words = ["hydra.run.dir=x/y", "hydra.sweep.dir=x", "hydra.sweep.subdir=y"]
        words.append("hydra.job.chdir=true")
        composed = compose("config", words, return_hydra_config=True)
    assert (composed.hydra.run.dir, composed.hydra.job.chdir) == (".", None)
    printed = capsys.readouterr().err.splitlines()
    assert printed[0].startswith("hydra.run.dir=x/y: ignored")
    assert printed[1].startswith("hydra.sweep.dir=x: ignored")
    assert printed[2].startswith("hydra.sweep.subdir=y: ignored")
    assert (composed.hydra.sweep.dir, composed.hydra.sweep.subdir) == (
        "multirun_results/.hydra",
        ".",
    )
    assert printed[3].startswith("hydra.job.chdir=true: ignored")


# Runs of one sweep: the shared command line, and the overrides of each run.
SWEEPS: dict[str, tuple[list[str], list[list[str]]]] = {
    "values": (
        ["experiment=demo", "optimizer.lr=0.1,0.2", "seed=0,1"],
        [[f"optimizer.lr={lr}", f"seed={seed}"] for lr in (0.1, 0.2) for seed in (0, 1)],
    ),
    "options": (
        ["optimizer=adam,sgd", "++optimizer.momentum=0.5", "scheduler=cosine,constant"],
        [
            ["optimizer=sgd", "++optimizer.momentum=0.5", "scheduler=constant", "lr=high"],
            ["++optimizer.momentum=0.5", "optimizer=adam", "lr=low"],
            ["optimizer=sgd", "optimizer.momentum=0.5", "experiment=null"],
        ],
    ),
    "additions and deletions": (
        ["seed=0"],
        [
            ["+extra=1", "seed=0"],
            ["~scheduler.gamma", "+scheduler.gamma=0.3"],
            ["~logger.group", "++logger.group=x", "logger.project='a=b,c'"],
            ["data={batch_size: 8}", "data.batch_size=16"],
            ["data.batch_size=16", "data={batch_size: 8}", "data=synthetic"],
            ["metrics=[top5,nll]", "paths={results: x}"],
        ],
    ),
    "expressions": (
        ["hydra.job.name=${oc.env:NAME_OF_JOB}", "hydra.mode=MULTIRUN"],
        [
            ["paths.results=${oc.env:SCRATCH_FOLDER}/${seed}", "seed=1"],
            ["logger.project=${hydra:job.name}", "logger.group=${hydra:job.override_dirname}"],
            ["seed=${training.epochs}", "training.epochs=7"],
            ["seed=${hydra:runtime.choices.optimizer}", "optimizer=sgd"],
            ["logger.project=${oc.env:NOT_SET}"],
        ],
    ),
    "mistakes": (
        ["seed=0"],
        [
            ["seed=abc"],
            ["optimizer.lrr=0.1"],
            ["optimizer=sgdd", "seed=1"],
            ["seed=1,2"],
            ["seed=("],
            ["+seed=1"],
            ["~nothing"],
            ["hydra.nothing=1"],
            ["model.width=${oc.env:SCRATCH_FOLDER}"],
            ["model={_target_: os.system}"],
            ["scheduler=cosine", "scheduler.gamma=0.1"],
        ],
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_the_runs_of_a_sweep_are_those_that_hydra_composes(
    files: Files, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH_FOLDER", "/scratch")
    monkeypatch.setenv("NAME_OF_JOB", "a-job")
    shared, runs = SWEEPS[name]
    quick = files.composed(shared, runs)
    monkeypatch.setattr(composition._Compositions, "compose", refuse)
    assert quick == files.composed(shared, runs)


def test_hydras_settings_cannot_be_swept(files: Files) -> None:
    with pytest.raises(ConfigCompositionException, match="Sweeping over Hydra's configuration"):
        files.composed(["hydra.job.name=a,b"], [])


def refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError


def test_the_files_of_a_sweep_are_read_once(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[Any] = []
    compose_from_files = composition._Compositions._compose_files
    monkeypatch.setattr(
        composition._Compositions,
        "_compose_files",
        lambda *given: composed.append(given) or compose_from_files(*given),
    )
    runs = [[f"optimizer={name}", f"seed={n}"] for n in range(50) for name in ("adam", "sgd")]
    files.composed(["optimizer=adam,sgd", "seed=range(50)"], runs)
    assert len(composed) == 3  # the settings that all runs share, and both optimizers


def test_listing_the_options_of_a_group_copies_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--help` lists a hundred groups, and Hydra copies all registered settings for each."""
    with adapted_hydra(["--help"]), initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        monkeypatch.setattr(DictConfig, "__deepcopy__", lambda *_: pytest.fail("copied"))
        assert "sgd" in loader.get_group_options("optimizer")
