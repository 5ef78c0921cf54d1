"""What only a GPU can show; skipped where there is none."""

import io
from itertools import zip_longest
from typing import Any

import pytest
import torch

from cifar_exp.config.schema import (
    Adam,
    Model,
    OneCycle,
    Paths,
    RmsProp,
    RunConfig,
    Sgd,
    Synthetic,
)
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset, load
from cifar_exp.errors import UserError
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.runner import Runner
from cifar_exp.training import pace
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# Batches of 64, 64, 64 and 8: the short one has a graph of its own. Likewise 250 and 50 in testing.
DATA = Synthetic(train_size=200, test_size=300, augment="crop_flip", cutout=8)


def config(**changes) -> RunConfig:
    settings = {
        "data": DATA,
        "model": Model(name="vgg11", width=0.25, dropout=0.5),
        "training": Length(epochs=3, label_smoothing=0.1),
        "precision": "fp32",
    }
    return RunConfig(**(settings | changes))


def gpu(precision: str = "fp32") -> Compute:
    return Compute(torch.device("cuda", 0), precision, threads=0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return load(DATA, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> DeviceImages:
    return DeviceImages(dataset, torch.device("cuda", 0))


def checkpoint_of(run: Training) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(run.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def training(run: RunConfig, images: DeviceImages, precision: str = "fp32", **how) -> Training:
    return Training(run, images, tuple("abcdefghij"), gpu(precision), **how)


def assert_same(one: Training, other: Training) -> None:
    for first, second in zip(one.history, other.history, strict=True):
        for field in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert getattr(first, field) == getattr(second, field), field
    states = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_gpu_learns_what_the_cpu_learns(dataset: Dataset, images: DeviceImages) -> None:
    run = config(training=Length(epochs=1))
    cpu = Compute(torch.device("cpu"), "fp32", threads=1)
    on_cpu = Training(run, DeviceImages(dataset, cpu.device), dataset.classes, cpu)
    on_gpu = training(run, images)
    list(on_cpu.run())
    list(on_gpu.run())
    # the same weights, order, flips, crops, holes and masks; only the rounding differs
    assert on_gpu.history[0].train_loss == pytest.approx(on_cpu.history[0].train_loss, abs=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", [Adam(), Sgd(), Sgd(momentum=0, nesterov=False), RmsProp()])
def test_replayed_graphs_equal_eager_steps_bit_for_bit(
    images: DeviceImages, optimizer: Adam | Sgd | RmsProp, precision: str
) -> None:
    run = config(optimizer=optimizer)
    eager, replayed = (training(run, images, precision, graphs=graphs) for graphs in (False, True))
    list(eager.run())
    list(replayed.run())
    assert_same(eager, replayed)


def test_a_rate_that_changes_at_every_step_needs_no_new_capture(images: DeviceImages) -> None:
    run = config(scheduler=OneCycle())
    eager, replayed = (training(run, images, graphs=graphs) for graphs in (False, True))
    list(eager.run())
    list(replayed.run())
    assert_same(eager, replayed)


def test_runs_that_take_turns_equal_runs_alone(images: DeviceImages) -> None:
    runs = [
        config(seed=0),
        config(seed=1, optimizer=Sgd()),
        config(seed=2, model=Model(width=0.25)),
    ]
    alone = [training(run, images, "bf16") for run in runs]
    for run in alone:
        list(run.run())
    together = [training(run, images, "bf16") for run in runs]
    list(zip_longest(*(run.run() for run in together)))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("optimizer", [Adam(), Sgd(), RmsProp()])
def test_a_resumed_run_equals_an_uninterrupted_one(
    images: DeviceImages, optimizer: Adam | Sgd | RmsProp, tmp_path
) -> None:
    run = config(optimizer=optimizer)
    whole = training(run, images)
    list(whole.run())
    begun = training(run, images)
    for _ in begun.run():
        if begun.history:
            break
    torch.save(begun.state_dict(), tmp_path / "state.pt")
    resumed = training(run, images)
    resumed.load_state_dict(
        torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    )
    list(resumed.run())
    assert_same(whole, resumed)


def test_a_run_takes_no_more_memory_after_its_capture(images: DeviceImages) -> None:
    run = training(config(), images)
    events = run.run()
    next(events)
    taken = torch.cuda.memory_reserved()
    list(events)
    assert torch.cuda.memory_reserved() <= taken + 2**21  # an epoch's order is copied
    assert 0 < run.history[0].peak_memory_bytes < 2**32


def test_a_step_waits_for_nothing(images: DeviceImages) -> None:
    run = training(config(data=DATA.model_copy(update={"batch_size": 4})), images)
    events = run.run()
    next(events)  # all is captured
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(events)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_goes_on_from_any_step_bit_for_bit(
    images: DeviceImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_STEPS_BETWEEN_PAUSES", 1)
    run = config(training=Length(epochs=2))
    whole = training(run, images)
    states = {}
    for _ in whole.run():
        states[whole.steps] = checkpoint_of(whole)
    assert len(states) == 8  # four steps in each epoch
    for state in states.values():
        resumed = training(run, images)
        resumed.load_state_dict(state)
        list(resumed.run())
        assert_same(resumed, whole)


def test_a_batch_that_does_not_fit_is_out_of_memory_and_the_next_run_trains(tmp_path) -> None:
    _, total_bytes = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2**31 / total_bytes))  # 2 GiB
    paths = Paths(results=str(tmp_path), logs=str(tmp_path))
    data = Synthetic(train_size=20_000, test_size=100, batch_size=20_000)
    # at full width the first layer's output alone takes 2.6 GB in bf16
    big = config(data=data, model=Model(), training=Length(epochs=1), paths=paths)
    runner = Runner()
    try:
        with pytest.raises(UserError, match="out of memory"):
            list(runner.run(big))
        small = big.model_copy(update={"data": data.model_copy(update={"batch_size": 64})})
        list(runner.run(small))
        assert RunFolder.of(small).status == "complete"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
