"""Mistakes on the command line: their messages and exit status."""

import errno
from pathlib import Path

import pytest
import yaml
from hydra.errors import OverrideParseException

from cifar_exp.cli.error_messages import describe, explain

MISTAKES = {
    # unknown keys and options, with the nearest name
    "optimizer.lrr=1": "optimizer.lrr: unknown setting; did you mean optimizer.lr?",
    "lrr=1": "did you mean lr?",
    "model.widht=0.5": "did you mean model.width?",
    "foo=1": "foo: unknown setting; `python train.py --cfg job` lists",
    "+model.foo=1": "model.foo: unknown setting",
    "optimizer=admm": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean adam?",
    "lr=to_high": "expected a number or one of article, high, low, too_high; did you mean too",
    "optimizer.momentum=0.9": "optimizer=adam does not have this setting; choose optimizer=sgd or ",
    "--foo": "--foo: unknown option",
    "hydra.searchpath=[file:///nowhere]": "hydra.searchpath: file:///nowhere not found. Correct",
    "+hydra.callbacks.mine._target_=nowhere.Mine": "hydra.callbacks.mine: ModuleNotFoundError: No",
    # wrong types and ranges
    "optimizer.lr=abc": 'optimizer.lr: expected a number, got "abc"',
    "lr=-1": "optimizer.lr: expected a number greater than 0, got -1",
    "lr=nan": "optimizer.lr: expected a finite number, got NaN",
    "lr=true": "optimizer.lr: expected a number, got true",
    "model.dropout=3": "model.dropout: expected a number less than 1, got 3",
    "epochs=0": "training.epochs: expected a number greater than or equal to 1, got 0",
    "batch_size=1.5": "data.batch_size: expected an integer, got 1.5",
    "scheduler.milestones=[5,a]": 'scheduler.milestones.1: expected an integer, got "a"',
    "optimizer.name=adaam": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean adam",
    # misunderstandings
    "epochs": "epochs: expected KEY=VALUE",
    "lr=choice(1,2)": "lr=choice(1,2): several values need a sweep; write -m 'lr=choice(1,2)'",
    "lr=0.1,0.2": "lr=0.1,0.2: several values need a sweep; write -m lr=0.1,0.2",
    "data=image_folder": "data.root: missing value; set data.root=VALUE",
    "-m lr=0.1,abc": "expected either numbers or names of levels, not both",
    "-m optimizer.lr=0.1,abc": "in the run optimizer.lr=abc",
    "--run --multirun": "expected only one of --run, --multirun",
    "epochs=null": "training.epochs: expected an integer, got null",
    "dropout=[0.5]": "model.dropout: expected a number, got [0.5]",
    "+lr=0.1": "+lr=0.1: expected no plus, since lr exists; write lr=0.1",
    "model=null": "model=null: expected one of own, resnet18, vgg11",
    # values of another type
    "lr=[0.1,0.01]": "expected a number, got [0.1, 0.01]; to sweep write -m lr=0.1,0.01",
    "scheduler.milestones=2": "expected a list, got 2; write scheduler.milestones=[2]",
    "scheduler.milestones=1,2": "several values need a sweep; write scheduler.milestones=[1,2], or",
    "data=image_folder data.root=2024": "expected a string, got 2024; write data.root=./2024",
    "logger.project=7": "expected a string, got 7; write 'logger.project=\"7\"'",
    "data=synthetic data.root=x": "data=synthetic does not have this setting; choose data=",
    # a similar name
    "training.lr=1": "training.lr: unknown setting; did you mean optimizer.lr?",
    "learning_rate=1": "learning_rate: unknown setting; did you mean lr?",
    "+seed=1": "+seed: expected no plus, since seed exists",
    "LR=1": "LR: unknown setting; did you mean lr?",
    "optimizer=SGD": "expected one of adam, adamw, lion, rmsprop, sgd; did you mean sgd?",
    "trainer.max_epochs=3": "trainer.max_epochs: unknown setting; did you mean training.epochs?",
    "+optimizer.foo=1": "optimizer.foo: unknown setting; `python train.py --cfg job` lists",
    "lr=1/10": "lr=1/10: expected a number or one of article",
    "lr='0.1'": "lr=0.1: expected a number or one of article, high, low, too_high; write lr=0.1 wi",
    "-cn experiment/demo experiment=demo": "experiment: not in the selected configuration",
    # what every run needs
    "~scheduler": "~scheduler: cannot be removed, since every run needs it; write scheduler=con",
    "~logger": "~logger: cannot be removed, since every run needs it; write logger=none",
    "~model=vgg16": "~model=vgg16: cannot be removed, since every run needs it",
    # what a sweep cannot do
    "-m lr=interval(0.1,0.2)": "lr=interval(0.1,0.2): expected a list or a range",
    "-m seed=range(0,2),5": "expected one list or one range, not both; write seed=0,1,5",
    "-m hydra.sweeper.max_batch_size=x": "max_batch_size: value 'x' of type 'str' could not be",
    "-m lr=0.1,0.2 --cfg all": "--cfg all: expected --cfg job with -m",
    "hydra/launcher=ray": "hydra/launcher=ray: expected a sweep; add -m",
    "hydra/sweeper=optuna": "hydra/sweeper=optuna: expected a search; add -m",
    "data.root=~/photos": "a value with special characters needs quotes",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_two_lines(train, mistake: str) -> None:
    output = train(*mistake.split(" "), status=1)
    assert MISTAKES[mistake] in output
    assert len(output.strip().splitlines()) <= 2
    assert not train.runs.exists()


@pytest.mark.parametrize("typed", ["lr = 0.1", " lr=0.1", "lr =0.1"])
def test_spaces_in_a_quoted_override_are_explained(typed: str) -> None:
    message = explain(OverrideParseException(typed, ""))
    assert message == f"{typed}: expected no spaces; write lr=0.1"


@pytest.mark.parametrize(
    ("typed", "example"),
    [
        ("lr=choice()", "lr=choice(0.1,0.01)"),
        ("lr=interval(a,b)", "lr=interval(0.001,0.1)"),
        ("epochs=range(1;3)", "epochs=range(1,10)"),
    ],
)
def test_invalid_arguments_of_a_function_are_explained(typed: str, example: str) -> None:
    message = explain(OverrideParseException(typed, ""))
    assert message == f"{typed}: expected other arguments, such as '{example}'"


def test_a_full_disk_is_explained_without_a_file_name() -> None:
    message = explain(OSError(errno.ENOSPC, "No space left on device"))
    assert message is not None
    assert message.startswith("No space left on device. Free some space, then run the same")


def test_cuda_without_a_gpu_is_refused(train) -> None:
    train.environment["CUDA_VISIBLE_DEVICES"] = ""
    output = train("data=synthetic", "device=cuda", status=1)
    assert "PyTorch finds no CUDA device here" in output
    assert len(output.strip().splitlines()) <= 2


def test_a_missing_data_folder_is_refused(train) -> None:
    output = train("data=image_folder", "data.root=nowhere", status=1)
    assert "nowhere" in output
    assert len(output.strip().splitlines()) <= 2
    assert not train.runs.exists()


def test_a_folder_without_write_permission_is_refused(train) -> None:
    (train.folder / "file").write_text("not a folder")
    output = train("data=synthetic", "paths.results=file", status=1)
    assert "expected a writable folder" in output
    assert len(output.strip().splitlines()) <= 2


def test_the_traceback_is_printed_on_request(train) -> None:
    train.environment["HYDRA_FULL_ERROR"] = "1"
    assert "Traceback" in train("optimizer.lr=abc", status=1)


def test_an_experiment_without_its_first_line_is_reported(train) -> None:
    (train.folder / "experiment").mkdir()
    (train.folder / "experiment" / "mine.yaml").write_text("seed: 1")
    output = train("--config-dir", str(train.folder), "experiment=mine", status=1)
    assert "its file lacks the first line `# @package _global_`" in output


def test_a_failed_download_of_cifar10_is_reported_before_the_sweep_starts(train) -> None:
    # a proxy on a closed port, so that urllib has no network
    train.environment |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    train.environment |= {"no_proxy": "", "NO_PROXY": "", "HTTPS_PROXY": "http://127.0.0.1:9"}
    output = train("-m", "seed=0,1", status=1)
    assert "cannot download CIFAR-10 from https://" in output
    assert "Copy cifar-10-python.tar.gz" in output
    assert "data=synthetic or data=image_folder" in output
    assert len(output.strip().splitlines()) == 3
    assert not train.runs.exists()


def test_invalid_yaml_is_reported_with_its_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("lr: 0.1\nepochs: [1\n")
    with pytest.raises(yaml.YAMLError) as error, file.open() as opened:
        yaml.safe_load(opened)
    assert describe(error.value).startswith(f"{file}, line 3: not valid YAML: expected ',' or ']'")
