"""What becomes of runs that fail, with a simulated worker."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.schema import Paths, RunConfig
from cifar_exp.errors import UserError
from cifar_exp.signals import StopRequest
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.messages import Died, Ended, Ready
from cifar_exp.sweeps.run_times import RunTimes

FULL = {"problem": "No space left", "disk_full": True}


class Workers:
    """A pool with one worker. Args: ends: how the runs end, by index; then they are complete."""

    on_gpu = False
    runs = ()

    def __init__(self, **ends: list[Any]) -> None:
        self._ends = {
            int(run.removeprefix("run")): list(messages) for run, messages in ends.items()
        }
        self._training: int | None = None
        self.started: list[int] = []
        self.stopped = False

    def train(self, run: int, _: RunConfig, prefix_runs: Sequence[RunConfig]) -> None:
        self._training = run
        self.started.append(run)

    def messages(self, _: float) -> Iterator[tuple[Any, Any]]:
        if self._training is not None:
            run, self._training = self._training, None
            others = self._ends.get(run)
            yield self, others.pop(0) if others else Ended(run)
        yield self, Ready()

    def replace(self, _: Any, reason: str) -> None:
        pass

    def stop(self, _: int) -> None:
        self.stopped = True


def dispatched(workers: Workers, folder: Path, count: int = 2) -> tuple[int, list[Ended]]:
    """Train runs, and return the number of failed ones and how each ended."""
    paths = Paths(results=str(folder))
    configs = [RunConfig(seed=seed, paths=paths) for seed in range(count)]
    ends: list[Ended] = []
    dispatcher = Dispatcher(
        workers,  # type: ignore[arg-type]
        RunTimes.of(configs, lambda _: 1.0),
        lambda config: f"seed={config.seed}",
        lambda _, end: ends.append(end) or "ended",  # type: ignore[func-returns-value]
        configs,
    )
    with dispatcher:
        dispatcher.work(StopRequest())
    return len(dispatcher.problems), ends


def test_a_failed_run_is_counted_and_the_others_are_trained(tmp_path: Path) -> None:
    workers = Workers(run0=[Ended(0, "disk error")])
    assert dispatched(workers, tmp_path) == (1, [Ended(0, "disk error"), Ended(1)])
    assert dispatched(Workers(), tmp_path) == (0, [Ended(0), Ended(1)])


def test_a_run_whose_worker_dies_is_retried_once_after_the_others(tmp_path: Path) -> None:
    workers = Workers(run0=[Died("killed", (0,))])
    assert dispatched(workers, tmp_path) == (0, [Ended(1), Ended(0)])
    assert workers.started == [0, 1, 0]


def test_a_run_whose_worker_dies_twice_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(run0=[Died("killed", (0,)), Died("killed", (0,))])
    assert dispatched(workers, tmp_path) == (1, [Ended(1), Ended(0, "killed (twice)")])
    assert "seed=0: killed. It is retried alone after the other runs." in capsys.readouterr().out


def test_a_full_disk_stops_the_other_runs(tmp_path: Path) -> None:
    workers = Workers(run0=[Ended(0, **FULL)])
    with pytest.raises(UserError, match="No space left; the other runs were stopped as well"):
        dispatched(workers, tmp_path)
    assert workers.started == [0]
    assert workers.stopped
