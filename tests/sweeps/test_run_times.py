"""Estimates of the remaining time, with a clock that the tests advance."""

from types import SimpleNamespace

import pytest

from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.settings import ImageFolder, Synthetic
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Adam
from cifar_exp.sweeps.run_times import (
    Budget,
    RunTimes,
    expected_cost,
    image_counts,
    makespan,
    part_after_epochs,
    shape,
)


class Clock(SimpleNamespace):
    def __call__(self) -> float:
        return float(self.now)


class SimulatedSweep:
    """Runs of known durations on two workers. Args: to_begin, to_end: seconds around the steps."""

    def __init__(
        self, seconds: list[float], costs: list[float], to_begin: float = 0.5, to_end: float = 1.5
    ) -> None:
        self.clock = Clock(now=0.0)
        self.times = RunTimes(costs, [str(cost) for cost in costs], clock=self.clock)
        self.seconds, self.around = seconds, (to_begin, to_end)

    def estimates(self, at_once: int = 2) -> list[tuple[float, float, float]]:
        """Return (fraction done, estimated, actual seconds left) every half second."""
        waiting, training, found = list(range(len(self.seconds))), {}, []
        to_begin, to_end = self.around
        while waiting or training:
            while waiting and len(training) < at_once:
                run = waiting.pop(0)
                # only the first run of a worker waits for its start
                training[run] = self.clock.now + (to_begin if run < at_once else 0.5)
                self.times.begin(run)
            for run, began in list(training.items()):
                passed = self.clock.now - began
                if 0 <= passed <= self.seconds[run]:
                    self.times.report(run, passed / self.seconds[run])
                elif passed >= self.seconds[run] + to_end:
                    self.times.end(run)
                    del training[run]
            left = self.times.left()
            if left is not None:
                found.append((self.times.done, left, self.clock.now))
            self.clock.now += 0.5
        return [(done, left, found[-1][2] - now) for done, left, now in found]


@pytest.mark.parametrize(
    ("seconds", "costs"),
    [
        ([20.0] * 4, [1.0] * 4),
        ([20.0] * 3, [1.0] * 3),  # the last run trains alone
        ([60.0, 30.0, 10.0], [6.0, 3.0, 1.0]),
        ([40.0, 40.0, 12.0], [10.0, 10.0, 2.5]),  # the small run costs more than expected
    ],
)
def test_the_estimate_is_right_within_30_percent_from_the_tenth_percent_on(
    seconds: list[float], costs: list[float]
) -> None:
    for done, estimated, actual in SimulatedSweep(seconds, costs).estimates():
        if done >= 0.1 and actual > 5:
            assert estimated == pytest.approx(actual, rel=0.3), done


def test_the_start_of_workers_does_not_count_as_training() -> None:
    slow_start = SimulatedSweep([20.0] * 4, [1.0] * 4, to_begin=10)
    for done, estimated, actual in slow_start.estimates():
        if done >= 0.1:
            assert estimated == pytest.approx(actual, rel=0.3), done


def test_epochs_of_before_an_interruption_take_no_time() -> None:
    clock = Clock(now=0.0)
    times = RunTimes([10.0, 10.0], shares=[0.8, 0.0], in_seconds=True, clock=clock)
    assert times.left(at_once=1) == pytest.approx(2 + 10 + 2 * 1.0)
    times.begin(0)
    times.report(0, 0.8)
    clock.now = 2
    times.report(0, 0.9)  # half as fast as expected
    assert times.remaining(1) == pytest.approx(20 + 1.0)


def test_a_run_that_is_taken_from_a_longer_one_is_not_progress() -> None:
    times = RunTimes([10.0, 5.0], shares=[0.0, 1.0])
    assert times.done == 0
    times.begin(0)
    times.report(0, 0.5)
    assert times.done == 0.5


def test_without_any_report_the_time_is_unknown_unless_costs_are_seconds() -> None:
    assert RunTimes([1.0, 1.0]).left() is None
    assert RunTimes([5.0, 3.0], in_seconds=True).left(2) == pytest.approx(6.0)


def test_the_predictions_at_the_end_of_a_run_are_counted() -> None:
    clock = Clock(now=0.0)
    times = RunTimes([10.0], afters=[0.2], clock=clock)
    times.begin(0)
    times.report(0, 0.0)
    clock.now = 5.0
    times.report(0, 0.5)
    # half of the epochs, a fifth of all for the predictions, and a constant for the figures
    assert times.left() == pytest.approx(5.0 + 2.0 + 0.7)


def test_predictions_take_as_long_as_an_evaluation() -> None:
    few = RunConfig(data=Synthetic(train_size=1000, test_size=100))
    many = RunConfig(data=Synthetic(train_size=1000, test_size=3000))
    # 3,000 evaluated images take as long as 1,000 training images
    assert part_after_epochs(many) == pytest.approx(0.5 / many.training.epochs, rel=0.05)
    assert part_after_epochs(few) < 0.05 / few.training.epochs


def test_the_longest_of_several_workers_determines_the_end() -> None:
    assert makespan([3, 3, 3], [], at_once=2) == 6
    assert makespan([4], [5, 1], at_once=2) == 5
    assert makespan([], [], at_once=2) == 0


def test_a_budget_ends_with_its_clock() -> None:
    clock = Clock(now=100.0)
    budget = Budget(60, clock)
    clock.now = 130.0
    assert budget.left == 30


def test_the_cost_counts_images_evaluation_and_the_network() -> None:
    def cost(model: str = "vgg16", **data: int) -> float:
        config = RunConfig(data=Synthetic(**data), model=Model(name=model))
        return expected_cost(config, on_gpu=False)

    assert cost(train_size=5000) > 1.8 * cost(train_size=2500)
    assert cost(test_size=50_000) > 2 * cost(test_size=1000)
    assert cost("vgg19") > cost("vgg16") > cost("vgg11")
    assert cost(limit_train=100) < cost()


def test_validation_images_are_evaluated_instead_of_test_images() -> None:
    config = RunConfig(data=Synthetic(train_size=1000, test_size=500, val_fraction=0.1))
    assert image_counts(config) == (900, 100)
    assert image_counts(config, train_size=900) == (900, 100)
    folder = RunConfig(data=ImageFolder(root="x"))
    assert image_counts(folder, train_size=800) == (800, 200)


def test_runs_that_differ_in_seed_rate_or_length_are_equally_fast() -> None:
    run = RunConfig(data=Synthetic())
    assert shape(run) == shape(
        RunConfig(data=Synthetic(), seed=3, optimizer=Adam(lr=1), training=Training(epochs=2))
    )
    assert shape(run) != shape(RunConfig(data=Synthetic(batch_size=16)))
