"""Runs that start from the weights of another run, `model.init=RUN`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cifar_exp.config.identity import all_settings, prefix_id, run_id, run_name, varied
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.models.build import build_model
from cifar_exp.models.settings import CustomModel, Model
from cifar_exp.optimizers import Sgd
from cifar_exp.runs.initial_weights import initial_weights, with_initial_weights
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import TINY, CommandLine, read_state
from tests.runs.test_continuing import assert_equal
from tests.runs.test_runner import config, finish

NETWORK = Model(name="vgg11", width=1 / 64)
SMALL = Synthetic(train_size=32, test_size=10, batch_size=16)


def first(folder: Path, **changes: object) -> RunConfig:
    """Return a run that others start from."""
    return config(
        folder, **({"data": SMALL, "model": NETWORK, "training": Training(epochs=1)} | changes)
    )


def started(folder: Path, init: str, **changes: object) -> RunConfig:
    """Return a run that starts from the weights of another one."""
    model = NETWORK.model_copy(update={"init": init})
    return with_initial_weights(first(folder, **({"model": model, "seed": 5} | changes)))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_a_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    source = weights(finish(first(tmp_path)))
    # too small a learning rate to change a weight
    slow = started(tmp_path, "batch_size=16", optimizer=Sgd(lr=1e-30, momentum=0, nesterov=False))
    run = weights(finish(slow))
    parameters = [name for name in source if name.endswith(("weight", "bias"))]
    assert all(torch.equal(run[name], source[name]) for name in parameters)


@pytest.mark.parametrize("classes", ["abc", "abcdefghij"])
def test_the_last_layer_is_new_if_the_classes_differ(tmp_path: Path, classes: str) -> None:
    source = finish(first(tmp_path))
    run = started(tmp_path, "batch_size=16")
    network = build_model(NETWORK, len(classes), seed=0)
    found = initial_weights(run, tuple(classes), network)
    assert {*weights(source)} - {*found} == {"classifier.weight", "classifier.bias"}
    same = json.loads((source / "model.json").read_text())["classes"]
    assert {*initial_weights(run, same, network)} == {*weights(source)}


def test_the_id_contains_the_weights_and_not_their_place(tmp_path: Path) -> None:
    source = finish(first(tmp_path))
    by_name, by_path = started(tmp_path, "batch_size=16"), started(tmp_path, str(source))
    assert by_name == by_path
    assert by_name.model.init.startswith(f"{source.name[-10:]}@sha256:")
    assert with_initial_weights(by_name) == by_name
    copy = tmp_path / "copies" / source.name
    shutil.copytree(source, copy)
    elsewhere = started(tmp_path, str(copy))
    assert elsewhere != by_name
    assert run_id(elsewhere) == run_id(by_name)
    other = finish(first(tmp_path, seed=1))
    assert run_id(started(tmp_path, str(other))) != run_id(by_name)
    assert f"init={source.name[-10:]}" in run_name(by_name)


def test_a_variable_stays_unresolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = finish(first(tmp_path / "others"))
    monkeypatch.setenv("OTHERS", str(source.parent))
    init = "${oc.env:OTHERS}/" + source.name
    assert started(tmp_path, init).model.init.startswith(f"{init}@sha256:")


def test_random_weights_do_not_change_an_id(tmp_path: Path) -> None:
    assert run_id(RunConfig(model=Model(init=None))) == "bcde3c0931"
    custom = {"_target_": "my_package.MyNet", "init": None}
    assert all_settings(RunConfig(model=CustomModel.model_validate(custom)))["model.init"] is None
    with_argument, without = (
        RunConfig(model=CustomModel.model_validate(content))
        for content in (custom, {"_target_": "my_package.MyNet"})
    )
    assert run_id(with_argument) != run_id(without)  # an argument of custom code


def test_a_sweep_varies_initial_weights_and_selection(tmp_path: Path) -> None:
    finish(first(tmp_path))
    assert varied([first(tmp_path), started(tmp_path, "batch_size=16", seed=0)]) == ["model.init"]
    validated = RunConfig(data=Synthetic(val_fraction=0.1))
    best = validated.model_copy(update={"training": Training(keep="best")})
    assert varied([validated, best]) == ["training.keep"]
    assert [all_settings(run)["training.keep"] for run in (validated, best)] == ["last", "best"]


def test_dropout_in_testing_does_not_make_another_network(tmp_path: Path) -> None:
    source = first(tmp_path, model=NETWORK.model_copy(update={"dropout_in_testing": True}))
    finish(source)
    assert isinstance(started(tmp_path, run_id(source)).model.init, str)  # pinned, not refused


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"model": Model(name="vgg13", width=1 / 64, init="batch_size=16")},
            "the same network, name=vgg13",
        ),
        (
            {"model": Model(name="vgg11", width=1 / 32, init="batch_size=16")},
            "but it has name=vgg11",
        ),
        ({"model": Model(init="nothing")}, "nothing: run not found"),
    ],
)
def test_another_network_is_refused(
    tmp_path: Path, changes: dict[str, Model], problem: str
) -> None:
    finish(first(tmp_path))
    with pytest.raises(UserError, match=problem):
        with_initial_weights(first(tmp_path, **changes))


@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
def test_changed_weights_are_refused(tmp_path: Path, file: str) -> None:
    source = finish(first(tmp_path))
    run = started(tmp_path, "batch_size=16")
    (source / file).write_bytes((source / file).read_bytes() + b" ")
    with pytest.raises(UserError, match=f"{file} does not match its sha256"):
        finish(run)


def test_an_interrupted_or_longer_run_does_not_read_the_initial_weights_again(
    tmp_path: Path,
) -> None:
    source = finish(first(tmp_path))
    runs = [
        started(tmp_path, "batch_size=16", training=Training(epochs=epochs)) for epochs in (2, 3)
    ]
    other = first(tmp_path, seed=5, training=Training(epochs=2))
    assert prefix_id(other) != prefix_id(runs[0]) == prefix_id(runs[1])
    whole = finish(runs[1])
    kept = tmp_path / "kept"
    shutil.move(whole, kept)
    interrupted = Runner(threads=1).run(runs[0])
    for event in interrupted:
        if isinstance(event, EpochMetrics):
            break
    with pytest.raises(Interrupted):
        interrupted.throw(Interrupted(15))
    shutil.rmtree(source)
    short = finish(runs[0])
    longer = finish(runs[1])
    assert read_state(longer)["began_as"] == short.name[-10:]
    assert_equal(longer, kept)


@pytest.mark.integration
def test_photos_and_a_sweep_start_from_a_run(train: CommandLine) -> None:
    tiny = (*TINY, "epochs=1", "logger=none")
    train(*tiny)
    (source,) = train.runs.iterdir()
    train("-m", *tiny, f"model.init={source.name[-10:]}", "seed=0,1")
    assert len([run for run in train.runs.iterdir() if "init=" in run.name]) == 2
    for name in ("cat/1", "cat/2", "cat/3", "dog/4", "dog/5", "dog/6"):
        file = train.folder / "photos" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (40 * int(file.stem), 0, 0)).save(file)
    photos = (
        "data=image_folder",
        "data.root=photos",
        "batch_size=2",
        f"model.init={source.name[-10:]}",
    )
    assert "complete" in train(*tiny[3:], *photos)
    assert "nothing: run not found" in train(*tiny, "model.init=nothing", status=1)
