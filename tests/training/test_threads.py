"""The default number of threads of a run."""

from typing import Any

import pytest
import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.settings import Cifar10, ImageFolder
from cifar_exp.models.settings import Model
from cifar_exp.training.device import choose_compute


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)


def config(width: float, batch_size: int, **data: Any) -> RunConfig:
    kind = ImageFolder(batch_size=batch_size, **data) if data else Cifar10(batch_size=batch_size)
    return RunConfig(data=kind, model=Model(width=width), device="cpu")


@pytest.mark.parametrize(
    ("run", "threads"),
    [
        (config(0.125, 64), 1),  # the demo
        (config(0.125, 256), 1),
        (config(1.0, 1), 1),
        (config(0.5, 64), 4),
        (config(1.0, 64), 4),  # the article's run
        (config(0.25, 64, root="photos", image_size=64), 4),
    ],
)
def test_short_steps_use_one_thread_and_others_all_cores(run: RunConfig, threads: int) -> None:
    assert choose_compute(run).threads == threads


def test_a_worker_uses_at_most_its_threads() -> None:
    assert choose_compute(config(1.0, 64), threads=2).threads == 2
    assert choose_compute(config(0.125, 64), threads=2).threads == 1


def test_omp_num_threads_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose_compute(config(0.125, 64)).threads == 4
