"""A sweep whose runs have ended, repeated."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.schema import Logger
from cifar_exp.data.settings import Synthetic
from cifar_exp.optimizers import Adam
from cifar_exp.reports import render, statistics
from cifar_exp.runs import folder
from cifar_exp.signals import Interrupted
from cifar_exp.sweeps import sweep as sweeping
from cifar_exp.sweeps.sweep import Sweep
from tests.made import make_run


def finished(results: Path, count: int) -> Sweep:
    logger = Logger(tensorboard=False)
    runs = [
        make_run(results, optimizer=Adam(lr=n / 1000), data=Synthetic(), logger=logger)
        for n in range(1, count + 1)
    ]
    return Sweep([run.read_config() for run in runs])


def counted(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each call of a function adds its arguments."""
    calls: list[Any] = []
    function: Callable[..., Any] = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: calls.append(given) or function(*given))
    return calls


def test_files_are_read_and_means_computed_in_proportion_to_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "update_report", lambda *_: None)
    read = counted(folder, "read_text", monkeypatch)
    computed = counted(statistics, "estimate", monkeypatch)
    counts = []
    for runs in (50, 100):
        sweep = finished(tmp_path / str(runs), runs)
        read.clear()
        computed.clear()
        sweep.run(None)
        counts.append((len(read), len(computed)))
    (reads, means), doubled = counts
    assert doubled == (2 * reads, 2 * means)
    assert means == 100  # of the table and of the answer below it


def test_the_report_is_made_again_only_if_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = finished(tmp_path, 2)
    files = [sweep.folder / "report.html", sweep.folder / "report.md"]
    figure = sweep.folder / "figures" / "curves.png"

    def write(*_: Any) -> None:
        for file in files:
            file.write_text("")
        figure.parent.mkdir(exist_ok=True)
        figure.touch()

    monkeypatch.setattr(render, "write_report", write)
    written = counted(render, "write_report", monkeypatch)
    for modified, reports in ((None, 1), (10**12, 1), (0, 2)):  # after and before the runs
        if modified is not None:
            for file in files:
                os.utime(file, (modified, modified))
        sweep.run(None)
        assert len(written) == reports
    for count, missing in enumerate((files[0], figure), 3):
        missing.unlink()
        sweep.run(None)
        assert len(written) == count


def test_after_an_interruption_the_advice_is_not_to_repeat_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(sweeping, "check_runs", interrupt)
    done = [config for config, _ in finished(tmp_path, 1).runs]
    new = [done[0].model_copy(update={"seed": 7})]
    again = [config.model_copy(update={"rerun": True}) for config in done]
    for configs, advice in (
        (new, "Run the same command again to resume."),
        (again, "The same command repeats all runs; without rerun=true it trains those that"),
    ):
        with pytest.raises(Interrupted) as stop:
            Sweep(configs).run(None)
        assert stop.value.advice.startswith(advice)


def test_a_finished_sweep_keeps_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = finished(tmp_path, 2)
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "seed=0,1", "rerun=true"])
    sweep.run(None)
    first = (sweep.folder / "sweep.json").read_text()
    assert '"train.py -m seed=0,1"' in first  # with rerun=true it would not resume the sweep
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "seed=range(2)"])
    sweep.run(None)
    assert (sweep.folder / "sweep.json").read_text() == first
