"""Custom networks in the training loop, with layers that use PyTorch's global generator."""

import io
from itertools import zip_longest
from typing import Any

import pytest
import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.data.batches import DeviceImages
from cifar_exp.data.dataset import Dataset
from cifar_exp.data.settings import Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.settings import CustomModel
from cifar_exp.training import throttle
from cifar_exp.training.device import Compute
from cifar_exp.training.loop import Training

CPU = Compute(torch.device("cpu"), "fp32", threads=1)
DATA = Synthetic(train_size=100, test_size=90, batch_size=32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return load(DATA, tmp_path_factory.mktemp("cache"))


def training(dataset: Dataset, name: str = "Random", seed: int = 0) -> Training:
    model = CustomModel.model_validate({"_target_": f"tests.nets.{name}"})
    run = RunConfig(data=DATA, model=model, training=Length(epochs=2), seed=seed)
    return Training(run, DeviceImages(dataset, CPU.device), dataset.classes, CPU)


def checkpoint_of(run: Training) -> dict[str, Any]:
    """Save and load the run's state."""
    file = io.BytesIO()
    torch.save(run.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def assert_same(one: Training, other: Training) -> None:
    assert [m["train_loss"] for m in one.history] == [m["train_loss"] for m in other.history]
    assert [m["test_loss"] for m in one.history] == [m["test_loss"] for m in other.history]
    states = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("name", ["Random", "Tied"])
def test_a_run_resumes_from_any_step_bit_for_bit(
    dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    whole = training(dataset, name)
    states = [checkpoint_of(whole) for _ in whole.run()]
    assert len(states) >= 2 * (4 + 1)  # four steps and a final yield per epoch
    for state in states:
        torch.rand(7)  # other use of the global generator
        resumed = training(dataset, name)
        resumed.load_state_dict(state)
        list(resumed.run())
        assert_same(resumed, whole)


def test_runs_that_take_turns_equal_single_runs(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    alone = [training(dataset, seed=seed) for seed in (0, 1)]
    for run in alone:
        list(run.run())
    together = [training(dataset, seed=seed) for seed in (0, 1)]
    list(zip_longest(*(run.run() for run in together)))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


def test_steps_epochs_and_seeds_have_different_random_numbers(dataset: Dataset) -> None:
    numbers = []
    for seed in (0, 1):
        run = training(dataset, seed=seed)
        run.model.register_forward_hook(
            lambda model, *_: numbers.append(torch.rand(1).item()) if model.training else None
        )
        list(run.run())
    assert len(set(numbers)) == len(numbers) == 2 * 2 * 4
