"""The training loop compared with a plain PyTorch loop like the article's."""

import io
import math
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.settings import Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.build import build_model
from cifar_exp.models.settings import Model
from cifar_exp.models.vgg import Vgg
from cifar_exp.optimizers import Adam, Sgd
from cifar_exp.training import throttle
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training
from cifar_exp.training.metrics import StepResult
from cifar_exp.training.progress import EpochMetrics, Progress
from cifar_exp.training.randomness import derived_seed, generator

CPU = Compute(torch.device("cpu"), "fp32", threads=1)
DATA = Synthetic(train_size=200, test_size=90, augment="none")  # smaller last batch: 200 = 3*64 + 8


def config(**changes) -> RunConfig:
    settings = {
        "data": DATA,
        "model": Model(name="vgg11", width=0.0625),
        "training": Length(epochs=1),
    }
    return RunConfig(**(settings | changes))


def training(run: RunConfig, dataset: Dataset, compute: Compute = CPU, **kwargs) -> Training:
    images = DeviceImages(dataset, compute.device)
    return Training(run, images, dataset.classes, compute, **kwargs)


def assert_same(one: Training, other: Training) -> None:
    """Compare losses and weights bit for bit."""
    assert [m["train_loss"] for m in one.history] == [m["train_loss"] for m in other.history]
    assert [m["test_loss"] for m in one.history] == [m["test_loss"] for m in other.history]
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(weights, others) for weights, others in pairs)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return load(DATA, tmp_path_factory.mktemp("cache"))


def plain_losses(run: RunConfig, dataset: Dataset) -> tuple[list[float], float]:
    """Return the losses of an epoch's steps, and the test loss, of plain PyTorch.

    Parameters and images are channels-last here too, since PyTorch's BatchNorm sums in a different
    order in that format; see `test_the_memory_format_changes_the_loss_by_rounding_only`.
    """
    model = plain_network(build_model(run.model, 10, derived_seed(run.seed, "weights")))
    model.to(memory_format=torch.channels_last)
    lr = run.optimizer.lr
    if isinstance(run.optimizer, Adam):
        # Fused here too: before BatchNorm, the gradient of a bias is rounding noise, which Adam
        # scales to steps of size lr. With different rounding the runs soon differ.
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, nesterov=True, foreach=False, fused=False
        )
    images = dataset.train.images.permute(0, 3, 1, 2).contiguous() / 255
    order = torch.randperm(len(images), generator=generator(run.seed, "order", 1))
    losses = []
    for start in range(0, len(order), run.data.batch_size):
        rows = order[start : start + run.data.batch_size]
        loss = nn.functional.cross_entropy(model(images[rows]), dataset.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        logits = model(dataset.test.images.permute(0, 3, 1, 2).contiguous() / 255)
    return losses, nn.functional.cross_entropy(logits, dataset.test.labels).item()


def plain_network(model: Vgg) -> nn.Sequential:
    """Copy the network to PyTorch's layers in the order of the article: ReLU, then pooling."""
    layers: list[nn.Module] = []
    for layer in model.features:
        if isinstance(layer, nn.Conv2d):
            plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            plain.load_state_dict(layer.state_dict())
            layers.append(plain)
        elif isinstance(layer, nn.BatchNorm2d):
            layers.append(nn.BatchNorm2d(layer.num_features))
        elif isinstance(layer, nn.MaxPool2d):
            layers += [nn.ReLU(), layer]
        elif isinstance(layer, nn.ReLU) and isinstance(layers[-1], nn.MaxPool2d):
            pass  # already added before the pooling
        else:
            layers.append(layer)
    return nn.Sequential(*layers, nn.Flatten(), model.classifier)


def step_losses(training: Training) -> tuple[list[float], float]:
    """Return the losses of an epoch's steps, and the test loss, of the training loop."""
    losses = []
    add = training.step.train_sums.add

    def keep(step: StepResult) -> None:
        losses.append(step.loss.item())
        add(step)

    training.step.train_sums.add = keep
    (metrics,) = (event for event in training.run() if isinstance(event, EpochMetrics))
    return losses, metrics["test_loss"]


TWENTY_STEPS = Synthetic(train_size=640, test_size=90, augment="none", batch_size=32)
WIDE = Model(name="vgg11", width=0.25)


@pytest.mark.parametrize("optimizer", [Sgd(lr=0.01), Adam()])
def test_twenty_steps_in_fp32_equal_those_of_a_plain_loop(optimizer: Adam | Sgd) -> None:
    run = config(optimizer=optimizer, data=TWENTY_STEPS, model=WIDE)
    dataset = load(TWENTY_STEPS, Path())
    expected, expected_test = plain_losses(run, dataset)
    losses, test_loss = step_losses(training(run, dataset))
    assert len(losses) == 20
    assert losses == pytest.approx(expected, abs=1e-5)
    assert test_loss == pytest.approx(expected_test, abs=1e-5)


def test_the_memory_format_changes_the_loss_by_rounding_only(dataset: Dataset) -> None:
    images = dataset.train.images[:64].permute(0, 3, 1, 2) / 255
    losses = []
    for layout in (torch.channels_last, torch.contiguous_format):
        model = plain_network(build_model(config().model, 10, seed=0)).to(memory_format=layout)
        logits = model(images.contiguous(memory_format=layout))
        losses.append(nn.functional.cross_entropy(logits, dataset.train.labels[:64]).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_loop_yields_every_ten_steps(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # independent of the machine's speed
    monkeypatch.setattr(throttle, "_SECONDS_BETWEEN_PAUSES", math.inf)
    data = Synthetic(train_size=200, test_size=90, augment="none", batch_size=8)
    events = list(training(config(data=data), dataset).run())
    # 200 images in batches of 8, and 90 evaluated images, each a third of the work
    assert events[:2] == [
        Progress(10, 25, pytest.approx(0.4 * 600 / 690)),  # type: ignore[arg-type]
        Progress(20, 25, pytest.approx(0.8 * 600 / 690)),  # type: ignore[arg-type]
    ]
    assert isinstance(events[2], EpochMetrics)
    assert len(events) == 3


def test_the_loop_yields_at_every_long_step(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_SECONDS_BETWEEN_PAUSES", 0)  # every step is long
    events = list(training(config(), dataset).run())
    steps = [event.steps for event in events if isinstance(event, Progress)]
    assert steps == [1, 2, 3, 4, 4]  # the last one during evaluation


def test_a_run_resumes_from_any_step_bit_for_bit(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)  # also during evaluation
    model = Model(name="vgg11", width=0.0625, dropout=0.5)
    data = DATA.model_copy(update={"augment": "crop_flip", "cutout": 4})
    run = config(model=model, data=data, training=Length(epochs=2))
    whole = training(run, dataset)
    states = [saved_and_loaded(whole.state_dict()) for _ in whole.run()]
    assert len(states) >= 2 * (4 + 1)  # four steps and a final yield per epoch
    for state in states:
        resumed = training(run, dataset)
        resumed.load_state_dict(state)
        list(resumed.run())
        assert_same(resumed, whole)


def test_an_interrupted_evaluation_is_not_training_time(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)  # also during evaluation
    training_now = training(config(), dataset)
    events = training_now.run()
    next(event for event in events if event.steps == 4 and training_now._tested)
    seconds = [training_now.state_dict()["epoch"]["seconds"] for _ in range(2)]
    assert seconds[0] == seconds[1]  # time passes, but none is counted


def test_dropout_in_testing_changes_the_evaluation_only_and_resumes_with_the_same_masks(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    model = Model(name="vgg11", width=0.0625, dropout=0.5)
    length = Length(epochs=2)
    off = training(config(model=model, training=length), dataset)
    list(off.run())
    run = config(model=model.model_copy(update={"dropout_in_testing": True}), training=length)
    on = training(run, dataset)
    states = [saved_and_loaded(on.state_dict()) for _ in on.run()]
    for without, dropped in zip(off.history, on.history, strict=True):
        assert dropped["train_loss"] == without["train_loss"]
        assert dropped["test_loss"] != without["test_loss"]
    images = on.batches.test_images(slice(0, 8))
    assert torch.equal(on.logits(images), off.logits(images))  # the model predicts without it
    for state in states[3:7]:  # the last step of an epoch, its evaluation and the next epoch
        resumed = training(run, dataset)
        resumed.load_state_dict(state)
        list(resumed.run())
        assert_same(resumed, on)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state after a round trip through a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_two_interleaved_runs_equal_single_runs(dataset: Dataset) -> None:
    runs = [
        config(seed=seed, model=Model(name="vgg11", width=0.0625, dropout=0.5)) for seed in (0, 1)
    ]
    alone = [training(run, dataset) for run in runs]
    for run in alone:
        list(run.run())
    together = [training(run, dataset) for run in runs]
    list(zip_longest(*(run.run() for run in together)))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


def test_a_run_whose_loss_explodes_ends_with_its_metrics(dataset: Dataset) -> None:
    run = config(optimizer=Sgd(lr=1e9), training=Length(epochs=5))
    exploding = training(run, dataset)
    events = list(exploding.run())
    assert exploding.diverged
    assert isinstance(events[-1], EpochMetrics)
    assert len(exploding.history) < 5
    assert math.isnan(exploding.history[-1]["test_accuracy"])  # not that of class 0


def test_a_run_that_learns_slowly_has_not_diverged(dataset: Dataset) -> None:
    learning_slowly = training(config(optimizer=Adam(lr=0.1)), dataset)
    list(learning_slowly.run())
    assert not learning_slowly.diverged


def test_label_smoothing_changes_the_training_loss_only(dataset: Dataset) -> None:
    fixed = {"optimizer": Sgd(lr=1e-12)}  # nothing is learned
    plain = training(config(**fixed), dataset)
    smooth = training(config(training=Length(epochs=1, label_smoothing=0.5), **fixed), dataset)
    list(plain.run()), list(smooth.run())
    assert smooth.history[0]["train_loss"] != pytest.approx(
        plain.history[0]["train_loss"], abs=1e-4
    )
    assert smooth.history[0]["test_loss"] == pytest.approx(plain.history[0]["test_loss"], abs=1e-6)


def test_test_flip_averages_the_logits_of_both_images(dataset: Dataset) -> None:
    data = DATA.model_copy(update={"test_flip": True})
    plain, flipping = training(config(), dataset), training(config(data=data), dataset)
    images = plain.batches.test_images([0, 1, 2])
    mean = (plain.logits(images) + plain.logits(images.flip(3))) / 2
    assert torch.equal(flipping.logits(images), mean)


def test_training_with_two_threads_is_reproducible_bit_for_bit(dataset: Dataset) -> None:
    two = Compute(torch.device("cpu"), "bf16", threads=2)
    runs = [training(config(), dataset, two) for _ in range(2)]
    torch.set_num_threads(2)
    try:
        for run in runs:
            list(run.run())
    finally:
        torch.set_num_threads(1)
    assert_same(*runs)


MEASURED = ("top5_accuracy", "grad_norm")


def with_short_epochs(**changes) -> RunConfig:
    data = DATA.model_copy(update={"train_size": 96, "test_size": 40, "batch_size": 32})
    return config(data=data, training=Length(epochs=2), **changes)


def test_optional_metrics_do_not_change_the_run() -> None:
    dataset = load(with_short_epochs().data, Path("."))
    plain = training(with_short_epochs(), dataset)
    measured = training(with_short_epochs(metrics=MEASURED), dataset)
    list(plain.run()), list(measured.run())
    assert_same(plain, measured)
    last = measured.history[-1]
    assert last["train_accuracy"] <= last["train_top5_accuracy"] <= 1
    assert last["test_accuracy"] <= last["test_top5_accuracy"] <= 1
    assert last["grad_norm"] > 0
    assert not {"grad_norm", "test_top5_accuracy"} & plain.history[-1].values.keys()


@pytest.mark.parametrize(("before", "after"), [((), MEASURED), (MEASURED, ())])
def test_a_run_can_be_resumed_with_different_metrics(
    monkeypatch: pytest.MonkeyPatch, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    dataset = load(with_short_epochs().data, Path("."))
    original = training(with_short_epochs(metrics=before), dataset)
    events = original.run()
    next(event for event in events if isinstance(event, Progress) and original._steps == 1)
    state = saved_and_loaded(original.state_dict())
    if not before:
        del state["epoch"]["metrics"]  # as in older checkpoints
    resumed = training(with_short_epochs(metrics=after), dataset)
    resumed.load_state_dict(state)
    list(resumed.run()), list(events)
    assert_same(original, resumed)
    first, second = (metrics.as_json() for metrics in resumed.history)
    if after:  # an epoch that was measured in part has no mean
        assert first["grad_norm"] is first["train_top5_accuracy"] is None
        assert second["grad_norm"] > 0
    else:
        assert "grad_norm" not in first


def test_validation_metrics_are_named_val_also_after_resuming_older_checkpoints() -> None:
    run = with_short_epochs()
    run = run.model_copy(update={"data": run.data.model_copy(update={"val_fraction": 0.25})})
    dataset = load(run.data, Path("."))
    whole = training(run, dataset)
    states = [
        saved_and_loaded(whole.state_dict()) for e in whole.run() if isinstance(e, EpochMetrics)
    ]
    names = {"val_loss", "val_accuracy", "val_seconds"}
    assert names < whole.history[-1].values.keys()
    assert not any(key.startswith("test_") for key in whole.history[-1].values)
    old = states[0]
    old["history"] = [
        {key.replace("val_", "test_"): value for key, value in row.items()}
        for row in old["history"]
    ]
    resumed = training(run, dataset)
    resumed.load_state_dict(old)
    list(resumed.run())
    assert [m["val_loss"] for m in resumed.history] == [m["val_loss"] for m in whole.history]
