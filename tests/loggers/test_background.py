"""A tracker that fails or hangs warns once, and training goes on as if it were not there."""

import logging
import sys
import threading
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.loggers import background, run_loggers
from cifar_exp.loggers.background import Background, InBackground
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.models.settings import Model
from cifar_exp.runs import preflight
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.runner import Runner
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import TINY, CommandLine
from tests.made import an_epoch

EPOCH = an_epoch(1)
RUN = LoggedRun(RunConfig(), {}, ())


class Recorder:
    """Notes what it is told, and fails or hangs where it is to."""

    def __init__(self, fails_in: str = "", hangs_in: str = "") -> None:
        self.told: list[str] = []
        self.goes_on = threading.Event()
        self._fails_in, self._hangs_in = fails_in, hangs_in

    def begin(self, run: LoggedRun) -> None:
        self._note("begin")

    def epoch(self, metrics: EpochMetrics) -> None:
        self._note("epoch")

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        self._note(f"end {status}")

    def _note(self, what: str) -> None:
        self.told.append(what)
        if self._fails_in and what.startswith(self._fails_in):
            raise ConnectionError("no route to host\nand more lines")
        if self._hangs_in and what.startswith(self._hangs_in):
            self.goes_on.wait(60)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user is told."""
    told: list[str] = []
    package = logging.getLogger("cifar_exp")
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", False)
    show_warnings(told.append)
    return told


def told(name: str, problem: str) -> str:
    return f"warning: {name} gets no more: {problem}; the run's own files have everything"


def tell(run_logger: InBackground, epochs: int = 1) -> None:
    run_logger.begin(RUN)
    for _ in range(epochs):
        run_logger.epoch(EPOCH)
    run_logger.end("complete", {})


def test_all_is_told_in_its_order(warnings: list[str]) -> None:
    recorder, thread = Recorder(), Background("Recorder")
    tell(InBackground(recorder, thread), epochs=2)
    thread.close(60)
    assert recorder.told == ["begin", "epoch", "epoch", "end complete"]
    assert warnings == []


@pytest.mark.parametrize("where", ["begin", "epoch", "end"])
def test_one_that_fails_warns_once_and_its_runs_are_ended_all_the_same(
    warnings: list[str], where: str
) -> None:
    thread = Background("Recorder")
    first, second = Recorder(fails_in=where), Recorder()
    tell(InBackground(first, thread), epochs=3)
    tell(InBackground(second, thread))
    thread.close(60)
    assert warnings == [told("Recorder", "ConnectionError: no route to host")]
    assert first.told.count("epoch") <= (3 if where == "end" else 1)
    assert first.told[-1] == "end complete"
    assert second.told == ["end complete"]


def test_one_that_hangs_holds_nobody_up(warnings: list[str]) -> None:
    recorder, thread = Recorder(hangs_in="epoch"), Background("Recorder")
    tell(InBackground(recorder, thread), epochs=5000)  # more than are kept waiting
    thread.close(0.1)
    assert warnings == [told("Recorder", "does not keep up")]
    recorder.goes_on.set()


def test_one_that_hangs_is_told_while_training_goes_on(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_PATIENCE_SECONDS", 0.0)
    recorder, thread = Recorder(hangs_in="begin"), Background("Recorder")
    run_logger = InBackground(recorder, thread)
    run_logger.begin(RUN)
    while not recorder.told:
        pass
    run_logger.epoch(EPOCH)
    assert warnings == [told("Recorder", "has not answered for 0 s")]
    recorder.goes_on.set()
    thread.close(60)


def test_one_that_is_slow_at_the_end_is_waited_for_a_little(warnings: list[str]) -> None:
    recorder, thread = Recorder(hangs_in="end"), Background("Recorder")
    tell(InBackground(recorder, thread))
    thread.close(0.1)
    assert warnings == [told("Recorder", "was not done after 0 s")]
    recorder.goes_on.set()


def test_a_run_is_complete_though_one_tracker_fails_and_another_hangs(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    wandb, trackio = types.ModuleType("wandb"), types.ModuleType("trackio")
    wandb.init = trackio.init = lambda **_: goes_on.wait(60)
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # which has no Settings
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for name in ("run", "utils"):
        setattr(trackio, name, trackio)
        monkeypatch.setitem(sys.modules, f"trackio.{name}", trackio)
    monkeypatch.setattr(run_loggers, "SECONDS_TO_FINISH", 0.1)
    config = RunConfig(
        data=Synthetic(train_size=64, test_size=20),
        model=Model(name="vgg11", width=1 / 16),
        training=Training(epochs=2),
        device="cpu",
        logger=Logger(wandb=True, trackio=True),
        paths=Paths(results=str(tmp_path), logs=str(tmp_path / "logs"), cache=str(tmp_path)),
    )
    runner = Runner(threads=1)
    for _ in runner.run(config):
        pass
    runner.close()
    goes_on.set()
    assert RunFolder.of(config).status == "complete"
    assert len(warnings) == 2
    assert warnings[0].startswith("warning: W&B gets no more: AttributeError: ")
    assert warnings[1].startswith("warning: Trackio gets no more: was not done after")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_one_that_is_not_installed_is_told_before_anything_is_begun(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    with pytest.raises(UserError) as error:
        preflight.preflight([RunConfig(logger=Logger(**{name: True}))])
    assert str(error.value) == f"logger={name}: not installed. Run pip install -e '.[{name}]'."


def test_a_misspelt_tracker_is_told_with_those_there_are(train: CommandLine) -> None:
    said = train(*TINY, "logger=[tensorboard,wandbb]", status=1)
    assert said.strip() == (
        "logger=wandbb: expected one of none, tensorboard, trackio, wandb; did you mean wandb?"
    )
