"""The custom networks and data of the guide, on the command line."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from cifar_exp.config.load import from_yaml
from cifar_exp.config.schema import Paths, RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.custom_code import digest
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.files import sha256
from cifar_exp.models.build import build_model
from cifar_exp.models.settings import CustomModel
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import CommandLine, read_state

EXAMPLES = Path(__file__).parents[1] / "docs" / "guide" / "examples"
SHORT = ("epochs=2", "device=cpu", "batch_size=32", "logger=none")
DATA = ("data._target_=my_data.patterns", "data.train_size=96", "data.test_size=40")
NET = ("model._target_=my_net.MyNet", "model.width=0.0625", "dropout=0.5")
SWEEP = ("-m", *SHORT, *DATA, *NET, "model.depth=1,2")


@pytest.fixture
def custom(train: CommandLine) -> CommandLine:
    """The command line in a folder with the examples."""
    for example in EXAMPLES.glob("*.py"):
        shutil.copy(example, train.folder)
    return train


@pytest.fixture(scope="module")
def swept(tmp_path_factory, command_line) -> CommandLine:
    """The examples after a sweep."""
    train = command_line(tmp_path_factory.mktemp("swept") / "here")
    shutil.copytree(EXAMPLES, train.folder)
    train.output = train(*SWEEP)
    return train


def test_the_file_of_custom_code_is_found_in_the_working_directory(
    custom: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(custom.folder)  # train.py is in another folder
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    assert digest("model", "my_net.MyNet") == sha256(custom.folder / "my_net.py")
    with pytest.raises(UserError, match=r"^model\._target_: module no_net not found in "):
        digest("model", "no_net.MyNet")  # as on a cluster, where jobs are not checked again


@pytest.mark.integration
def test_the_examples_of_the_guide_train_in_a_sweep(swept: CommandLine) -> None:
    assert "2 runs (0 finished before)" in swept.output
    assert "depth=2: complete" in swept.output
    for run in swept.runs.iterdir():
        assert "model=my_net.MyNet" in run.name
        saved = json.loads((run / "model.json").read_text())
        config = from_yaml((run / "config.yaml").read_text())
        assert saved["architecture"] == config.model.model_dump()
        assert saved["classes"] == ["horizontal", "vertical", "checks", "rings"]
        state = read_state(run)
        assert list(state["own_code_sha256"]) == ["my_data.patterns", "my_net.MyNet"]
        assert state["status"] == "complete"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "model.detph=3",
            "model: my_net.MyNet raises TypeError: MyNet.__init__() got an unexpected",
        ),
        ("-m model.depth=1,9", "model: my_net.MyNet raises RuntimeError: "),  # halved 9 times
        ("data.size=wide", "data: my_data.patterns raises AttributeError: "),
        ("model=vgg16", "model._target_: cannot be combined with model=vgg16; set model=own"),
        ("batch_size=97", "data.batch_size: expected at most the 96 training images, got 97"),
    ],
)
def test_mistakes_are_reported_before_a_run_is_created(
    custom: CommandLine, typed: str, message: str
) -> None:
    output = custom(*SHORT, *DATA, *NET, *typed.split(), status=1)
    lines = [line for line in output.strip().splitlines() if not line.startswith("set twice")]
    assert lines[0].startswith(message)
    assert len(lines) <= 2
    assert "Traceback" not in output
    assert not custom.runs.exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import no_such_package\n",
            "ModuleNotFoundError: No module named 'no_such_package' ({folder}/broken.py, line 1). "
            "Install no_such_package, or correct this line.",
        ),
        (
            "def net(num_classes)\n",
            "SyntaxError: expected ':' (broken.py, line 1). Correct this line.",
        ),
        ("raise KeyError\n", "KeyError ({folder}/broken.py, line 1). Correct this line."),
        (
            "\nimport sys; sys.exit(3)\n",
            "SystemExit: 3 ({folder}/broken.py, line 2). Correct this line.",
        ),
    ],
)
def test_code_that_cannot_be_imported_is_named_with_its_line(
    train: CommandLine, code: str, reason: str
) -> None:
    (train.folder / "broken.py").write_text(code)
    output = train(*SHORT, "data=synthetic", "model._target_=broken.net", status=1)
    expected = reason.format(folder=train.folder)
    assert output == f"model._target_: importing broken raises {expected}\n"


def test_a_file_with_the_name_of_an_installed_module_is_named(train: CommandLine) -> None:
    output = train(*SHORT, "data=synthetic", "model._target_=json.net", status=1)
    assert "json/__init__.py has no class or function net\n" in output
    (train.folder / "json.py").touch()
    output = train(*SHORT, "data=synthetic", "model._target_=json.net", status=1)
    assert output.endswith(f"Rename {train.folder / 'json.py'}, which that module hides\n")


@pytest.mark.slow
@pytest.mark.integration
def test_a_study_varies_a_setting_of_a_custom_network(custom: CommandLine) -> None:
    (custom.folder / "study").mkdir()
    study = {"name": "depth", "title": "Depth", "question": "Does depth help?", "seeds": [0]}
    study |= {"vary": {"model.depth": [1, 2]}, "settings": {"dropout": 0.25}}
    (custom.folder / "study" / "depth.yaml").write_text(yaml.safe_dump(study))
    typed = ("--config-dir", str(custom.folder), "study=depth", *SHORT, *DATA, "epochs=1")
    # the command line overrides the study
    output = custom(*typed, NET[0], "model.width=0.0625", "model.depth=2,3")
    assert "sweep of 2 runs" in output
    models = [from_yaml((run / "config.yaml").read_text()).model for run in custom.runs.iterdir()]
    expected = [{"width": 0.0625, "dropout": 0.25, "depth": depth} for depth in (2, 3)]
    assert sorted((model.settings for model in models), key=lambda s: s["depth"]) == expected


def test_custom_code_named_in_a_file_must_be_allowed(custom: CommandLine) -> None:
    (custom.folder / "model").mkdir()
    content = {"_target_": "my_net.MyNet", "depth": 1, "width": 0.0625}
    (custom.folder / "model" / "mine.yaml").write_text(yaml.safe_dump(content))
    typed = ("--config-dir", str(custom.folder), "model=mine", *SHORT, *DATA, "epochs=1")
    output = custom(*typed, status=1)
    allow = "If you trust it, add --allow my_net.MyNet"
    assert output.endswith(f"model._target_: my_net.MyNet can run any code. {allow}\n")
    assert not custom.runs.exists()
    custom(*typed, "--allow", "my_net.MyNet", "model.depth=2")
    assert "model=my_net.MyNet,depth=2,width=0.0625" in custom.only_run.name


@pytest.mark.integration
def test_commands_do_not_call_the_code_of_a_copied_run(
    swept: CommandLine, tmp_path: Path, command_line, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = command_line(tmp_path / "theirs")
    shutil.copytree(swept.folder, train.folder)
    for example in EXAMPLES.glob("*.py"):
        (train.folder / example.name).write_text("open('ran', 'w').close()\n")
    (folder,) = train.folder.glob("multirun_results/depth-*")
    runs = list(train.runs.iterdir())
    train.cifar_exp("table", str(folder))
    train.cifar_exp("report", str(folder))
    assert "depth" in train.cifar_exp("compare", *map(str, runs))
    assert "2 finished before" in train(*SWEEP)
    monkeypatch.chdir(train.folder)
    with pytest.raises(UserError, match=r"my_net\.MyNet can run any code"):
        build_model(from_yaml((runs[0] / "config.yaml").read_text()).model, 4, 0)
    assert not (train.folder / "ran").exists()
    train(*SHORT, *DATA, *NET, status=1)  # the code is called in a new run
    assert (train.folder / "ran").exists()


def test_the_value_of_an_environment_variable_is_passed_to_the_code_and_not_saved(
    custom: CommandLine,
) -> None:
    (custom.folder / "theirs.py").write_text(
        "import my_data\n\n"
        "def named(names, path):\n"
        "    train, test, _ = my_data.patterns(96, 40)\n"
        "    return train, test, [*names, path]\n"
    )
    custom.environment["SECRET"] = "s3cr3t"
    typed = 'data.names=["${oc.env:SECRET}",b,c]', 'data.path="${oc.env:SECRET}/x"'
    custom(*SHORT, *NET, "epochs=1", "data._target_=theirs.named", *typed)
    run = custom.only_run
    # the function uses the value as the name of a class
    assert json.loads((run / "model.json").read_text())["classes"] == [
        "s3cr3t",
        "b",
        "c",
        "s3cr3t/x",
    ]
    written = "".join((run / name).read_text() for name in ("config.yaml", "run.json", "train.log"))
    assert "s3cr3t" not in run.name + written
    assert "${oc.env:SECRET}/x" in (run / "config.yaml").read_text()


def test_shared_weights_are_saved_and_loaded(custom: CommandLine) -> None:
    shutil.copy(Path(__file__).parent / "nets.py", custom.folder)
    custom(*SHORT, *DATA, "epochs=1", "model._target_=nets.Tied")
    saved = load_file(custom.only_run / "model.safetensors")
    assert torch.equal(saved["first.weight"], saved["second.weight"])
    assert saved["seen"] == 96  # each training image once
    config = CustomModel.model_validate({"_target_": "tests.nets.Tied"})
    network = build_model(config, 4, 0, {"tests.nets.Tied"})
    assert not torch.equal(network.first.weight, saved["first.weight"])
    network.load_state_dict(saved)
    assert torch.equal(network.first.weight, saved["first.weight"])


def test_resuming_with_changed_code_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path), *__import__("sys").path])
    code = (EXAMPLES / "my_net.py").read_text()
    (tmp_path / "my_changing_net.py").write_text(code)
    config = RunConfig(
        data=Synthetic(train_size=64, test_size=40),
        model=CustomModel.model_validate({"_target_": "my_changing_net.MyNet", "width": 0.0625}),
        training=Length(epochs=2),
        device="cpu",
        paths=Paths(results=str(tmp_path / "results"), logs=str(tmp_path / "logs")),
    )
    run = Runner().run(config)
    while not isinstance(next(run), EpochMetrics):
        pass
    next(run)  # within the second epoch
    with pytest.raises(Interrupted):
        run.throw(Interrupted(15))
    (tmp_path / "my_changing_net.py").write_text(code + "# changed\n")
    warnings: list[str] = []
    show_warnings(warnings.append)
    list(Runner().run(config))
    assert warnings == [
        "warning: the code of my_changing_net.MyNet has changed since the run started"
    ]
