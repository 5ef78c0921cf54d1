"""The loop against a plain one, written here the way the article's is."""

import pytest
import torch
from torch import nn

from cifar_exp.config.schema import Adam, Model, RunConfig, Sgd, Synthetic
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.dataset import Dataset, load
from cifar_exp.models.vgg import build_model
from cifar_exp.training.device import Compute
from cifar_exp.training.events import EpochMetrics
from cifar_exp.training.loop import Progress, Training
from cifar_exp.training.randomness import derived_seed, generator

CPU = Compute(torch.device("cpu"), "fp32", threads=1)
DATA = Synthetic(train_size=200, test_size=90, augment="none")  # a short last batch: 200 = 3*64 + 8


def config(**changes) -> RunConfig:
    settings = {
        "data": DATA,
        "model": Model(name="vgg11", width=0.0625),
        "training": Length(epochs=1),
    }
    return RunConfig(**(settings | changes))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return load(DATA, tmp_path_factory.mktemp("cache"))


def plain_epoch(run: RunConfig, dataset: Dataset) -> EpochMetrics:
    """An epoch with PyTorch's plain optimizer, contiguous images, a synchronisation a step.

    The weights keep their channels-last layout: PyTorch's BatchNorm sums in another order there,
    which `test_the_memory_layout_changes_the_loss_by_rounding_alone` looks at.
    """
    model = build_model(run.model, 10, derived_seed(run.seed, "weights"))
    plain = {"lr": run.optimizer.lr, "foreach": False, "fused": False}
    if isinstance(run.optimizer, Adam):
        optimizer = torch.optim.Adam(model.parameters(), **plain)
    else:
        optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, **plain)
    images = dataset.train.images.permute(0, 3, 1, 2).contiguous() / 255
    order = torch.randperm(len(images), generator=generator(run.seed, "order", 1))
    loss_sum = correct = 0.0
    model.train()
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        logits = model(images[rows])
        loss = nn.functional.cross_entropy(logits, dataset.train.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.item() * len(rows)
        correct += (logits.argmax(1) == dataset.train.labels[rows]).sum().item()
    model.eval()
    with torch.no_grad():
        logits = model(dataset.test.images.permute(0, 3, 1, 2).contiguous() / 255)
    test_loss = nn.functional.cross_entropy(logits, dataset.test.labels).item()
    test_accuracy = (logits.argmax(1) == dataset.test.labels).double().mean().item()
    return EpochMetrics(
        1, loss_sum / 200, correct / 200, test_loss, test_accuracy, run.optimizer.lr, 0, 0, 0, 0
    )


@pytest.mark.parametrize(
    ("optimizer", "test_tolerance"),
    [
        (Sgd(lr=0.01), 1e-5),
        # A convolution's bias has no gradient but rounding noise before BatchNorm; Adam makes steps
        # of size lr of it, which the running means used in testing follow with a delay.
        (Adam(), 1e-4),
    ],
)
def test_an_epoch_equals_that_of_a_plain_loop(
    dataset: Dataset, optimizer: Adam | Sgd, test_tolerance: float
) -> None:
    run = config(optimizer=optimizer)
    expected = plain_epoch(run, dataset)
    (metrics,) = (e for e in Training(run, dataset, CPU).run() if isinstance(e, EpochMetrics))
    assert metrics.train_loss == pytest.approx(expected.train_loss, abs=1e-5)
    assert metrics.test_loss == pytest.approx(expected.test_loss, abs=test_tolerance)
    assert metrics.train_accuracy == expected.train_accuracy
    assert metrics.test_accuracy == expected.test_accuracy
    assert metrics.lr == optimizer.lr


def test_the_memory_layout_changes_the_loss_by_rounding_alone(dataset: Dataset) -> None:
    images = dataset.train.images[:64].permute(0, 3, 1, 2) / 255
    losses = []
    for layout in (torch.channels_last, torch.contiguous_format):
        model = build_model(config().model, 10, seed=0).to(memory_format=layout)
        logits = model(images.contiguous(memory_format=layout))
        losses.append(nn.functional.cross_entropy(logits, dataset.train.labels[:64]).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_loop_can_be_left_every_ten_steps(dataset: Dataset) -> None:
    data = Synthetic(train_size=200, test_size=90, augment="none", batch_size=8)
    events = list(Training(config(data=data), dataset, CPU).run())
    assert events[:2] == [Progress(1, 10, 25), Progress(1, 20, 25)]  # 200 images in batches of 8
    assert isinstance(events[2], EpochMetrics)
    assert len(events) == 3


def test_two_interleaved_runs_equal_two_alone(dataset: Dataset) -> None:
    def losses(training: Training) -> list[float]:
        return [metrics.train_loss for metrics in training.history]

    runs = [
        config(seed=seed, model=Model(name="vgg11", width=0.0625, dropout=0.5)) for seed in (0, 1)
    ]
    alone = [Training(run, dataset, CPU) for run in runs]
    for training in alone:
        list(training.run())
    together = [Training(run, dataset, CPU) for run in runs]
    list(zip(*(training.run() for training in together), strict=False))
    for one, other in zip(alone, together, strict=True):
        assert losses(one) == losses(other)
        for weights, others in zip(one.model.parameters(), other.model.parameters(), strict=True):
            assert torch.equal(weights, others)


def test_a_loss_that_explodes_ends_the_run_with_its_metrics(dataset: Dataset) -> None:
    run = config(optimizer=Sgd(lr=1e9), training=Length(epochs=5))
    training = Training(run, dataset, CPU)
    events = list(training.run())
    assert training.diverged
    assert isinstance(events[-1], EpochMetrics)
    assert len(training.history) < 5


def test_a_high_rate_that_only_learns_badly_has_not_diverged(dataset: Dataset) -> None:
    training = Training(config(optimizer=Adam(lr=0.1)), dataset, CPU)
    list(training.run())
    assert not training.diverged


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_learns_what_the_cpu_learns(dataset: Dataset) -> None:
    gpu = Compute(torch.device("cuda"), "fp32", threads=0)
    on_cpu, on_gpu = Training(config(), dataset, CPU), Training(config(), dataset, gpu)
    list(on_cpu.run())
    list(on_gpu.run())
    # the same weights, order and masks; only the rounding differs
    assert on_gpu.history[0].train_loss == pytest.approx(on_cpu.history[0].train_loss, abs=1e-2)
