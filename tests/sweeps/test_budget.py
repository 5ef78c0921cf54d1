"""A budget, with simulated workers and a clock that they advance."""

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.signals import StopRequest
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.messages import Ended, ProgressReport, Ready
from cifar_exp.sweeps.run_times import Budget, RunTimes
from cifar_exp.training.progress import Progress
from tests.conftest import TINY, CommandLine
from tests.sweeps.test_seeds_added import SMALLEST, write_study


class Clock(SimpleNamespace):
    def __call__(self) -> float:
        return float(self.now)


class Workers:
    """A pool with one worker, whose epochs take as many seconds as `speed`."""

    on_gpu = False

    def __init__(self, clock: Clock, speed: float) -> None:
        self._clock, self._speed = clock, speed
        self.trained: list[int] = []  # epochs of each run
        self._run: tuple[int, RunConfig] | None = None

    def train(self, run: int, config: RunConfig, _: Sequence[RunConfig]) -> None:
        self._run = run, config

    def messages(self, _: float) -> Iterator[tuple[Any, Any]]:
        if self._run is not None:
            run, config = self._run
            epochs = config.training.epochs
            yield self, ProgressReport(run, Progress(0, 10, 0.0))
            self._clock.now += self._speed * epochs
            yield self, ProgressReport(run, Progress(10, 10, 1.0))
            self.trained.append(epochs)
            self._run = None
            yield self, Ended(run)
        yield self, Ready()

    def stop(self, _: int) -> None:
        pass


def cost_of(config: RunConfig) -> float:
    return 10.0 * config.training.epochs  # seconds


def dispatch(
    epochs: Sequence[int],
    budget: float,
    speed: float = 10.0,
    chooser: Any = None,
    prefix_runs: Mapping[int, Sequence[int]] | None = None,
) -> tuple[list[int], list[int]]:
    """Return the epochs of the runs that were trained, and of those that were left out."""
    clock = Clock(now=0.0)
    workers = Workers(clock, speed)
    configs = [RunConfig(training=Training(epochs=n), seed=n) for n in epochs]
    waiting = {short for shorter in (prefix_runs or {}).values() for short in shorter}
    shares = [float(run in waiting) for run in range(len(configs))]
    times = RunTimes.of(configs, cost_of, shares, in_seconds=True)
    times._clock = clock
    dispatcher = Dispatcher(
        workers,  # type: ignore[arg-type]
        times,
        lambda config: str(config.training.epochs),
        lambda *_: "complete",
        () if chooser else configs,
        prefix_runs=prefix_runs or {},
        chooser=chooser,
        budget=Budget(budget, clock),
    )
    with dispatcher:
        dispatcher.work(StopRequest())
    return workers.trained, [config.training.epochs for config in dispatcher.left_out]


def test_runs_are_trained_in_their_order_while_they_end_in_time() -> None:
    assert dispatch([1, 3, 2], budget=1000) == ([1, 3, 2], [])
    # after 10 s, 3 epochs would take 30 s; 2 epochs fit
    assert dispatch([1, 3, 2], budget=35) == ([1, 2], [3])
    assert dispatch([1, 3, 2], budget=1) == ([], [1, 3, 2])


def test_the_speed_of_earlier_runs_decides() -> None:
    # epochs take twice as long as expected
    assert dispatch([1, 2], budget=45) == ([1, 2], [])
    assert dispatch([1, 2], budget=45, speed=20) == ([1], [2])


def test_a_shorter_run_takes_all_its_time_if_the_longer_run_does_not_fit() -> None:
    assert dispatch([3, 9], budget=20, prefix_runs={1: [0]}) == ([], [9, 3])
    assert dispatch([1, 9], budget=20, prefix_runs={1: [0]}) == ([1], [9])


class Chooser:
    """A search that chooses runs of given numbers of epochs."""

    def __init__(self, *epochs: int) -> None:
        self._epochs = list(epochs)

    @property
    def has_more(self) -> bool:
        return bool(self._epochs)

    def next_run(self) -> RunConfig:
        epochs = self._epochs.pop(0)
        return RunConfig(training=Training(epochs=epochs), seed=epochs)

    def continues(self, *_: object) -> bool:
        return True


def test_a_search_ends_at_the_first_trial_that_does_not_fit() -> None:
    chooser = Chooser(1, 3, 2)
    assert dispatch([1, 1, 1], budget=35, chooser=chooser) == ([1], [3])
    assert chooser.has_more  # the same command with a larger budget continues


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("budget=2h", "budget: expected a sweep, a study or a search; add -m"),
        ("-m lr=0.1,0.01 budget=soon", "budget: expected a time such as 2h, 30m, 90s or 1h30m"),
        ("-m lr=0.1,0.01 budget=1h,2h", "budget: expected one value for all runs"),
    ],
)
def test_a_budget_without_sense_is_refused(train: CommandLine, command: str, message: str) -> None:
    printed = train(*command.split(), *TINY, status=1)
    assert message in printed
    assert len(printed.strip().splitlines()) <= 2
    assert not train.runs.exists()


@pytest.mark.integration
def test_a_study_continues_with_a_larger_budget(train: CommandLine) -> None:
    command = (*write_study(train.folder, "optimizer.eps", 1e-8, 2e-8), *SMALLEST)
    command = (*command, "study.max_seeds=3")
    # less time than the start and the end of a run take
    printed = train(*command, "budget=1s")
    assert "budget: 6 runs would not have ended in time and were not started" in printed
    (report,) = train.runs.parent.glob("planted-*/report.md")
    assert "inconclusive" in report.read_text() or "not measured" in report.read_text()
    printed = train(*command, "budget=1h")
    assert "sweep of 6 runs (0 finished before)" in printed
    assert len(list(train.runs.glob("*/model.safetensors"))) == 6
    assert len(list(train.runs.parent.glob("planted-*"))) == 1  # the same sweep
