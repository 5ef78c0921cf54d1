"""Learning-rate schedules compared with literal values and with PyTorch's schedulers."""

import warnings

import pytest
import torch
from torch.optim import lr_scheduler

from cifar_exp.schedulers import Constant, Cosine, MultiStep, OneCycle, Scheduler


def factors(config: Scheduler, steps_per_epoch: int, epochs: int) -> list[float]:
    steps = range(steps_per_epoch * epochs)
    return [config.factor(step, steps_per_epoch, epochs) for step in steps]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_the_articles_schedule_halves_the_rate_after_75_and_150_epochs() -> None:
    by_epoch = factors(MultiStep(), steps_per_epoch=1, epochs=200)
    assert by_epoch[:75] == [1.0] * 75  # epochs 1 to 75
    assert by_epoch[75:150] == [0.5] * 75  # epochs 76 to 150
    assert by_epoch[150:] == [0.25] * 50


def test_all_steps_of_an_epoch_have_the_same_rate() -> None:
    config = MultiStep(milestones=(1,), gamma=0.1)
    assert factors(config, steps_per_epoch=3, epochs=2) == [1, 1, 1, 0.1, 0.1, 0.1]
    assert factors(Constant(), steps_per_epoch=2, epochs=2) == [1, 1, 1, 1]


def test_cosine_decays_from_one_towards_the_final_factor() -> None:
    half = factors(Cosine(), steps_per_epoch=1, epochs=4)
    # (1 + cos(pi epoch / 4)) / 2; it would reach 0 after the last epoch
    assert half == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert factors(Cosine(final_factor=1.0), 1, 4) == [1, 1, 1, 1]


def test_one_cycle_rises_to_the_peak_and_decays_almost_to_zero() -> None:
    config = OneCycle(warmup_fraction=0.5, initial_divisor=10, final_divisor=100)
    assert factors(config, steps_per_epoch=3, epochs=2) == pytest.approx(
        # a half cosine from 0.1 to 1 in two steps, then to 0.001 in three
        [0.1, 0.55, 1.0, 0.75025, 0.25075, 0.001]
    )


@pytest.mark.parametrize(
    ("config", "make", "each_step"),
    [
        (
            MultiStep(milestones=(2, 5), gamma=0.3),
            lambda o: lr_scheduler.MultiStepLR(o, [2, 5], gamma=0.3),
            False,
        ),
        (Cosine(final_factor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 7, 0.1), False),
        (
            OneCycle(),
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=28, cycle_momentum=False),
            True,
        ),
    ],
)
def test_a_schedule_equals_pytorchs_scheduler_at_every_step(
    config: Scheduler, make: object, each_step: bool
) -> None:
    sgd = optimizer()
    scheduler = make(sgd)
    expected = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns after the last step
        for step in range(28):  # 7 epochs of 4 steps
            expected.append(sgd.param_groups[0]["lr"])
            sgd.step()
            if (each_step or step % 4 == 3) and step < 27:
                scheduler.step()
    assert factors(config, steps_per_epoch=4, epochs=7) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("config", [Constant(), MultiStep(), Cosine(), OneCycle()])
def test_a_run_of_one_step_has_a_positive_rate(config: Scheduler) -> None:
    (factor,) = factors(config, steps_per_epoch=1, epochs=1)
    assert 0 < factor <= 1
