"""A service that fails or hangs causes one warning and does not affect training."""

import logging
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.loggers import background, run_loggers
from cifar_exp.loggers.background import BackgroundLogger, LoggerThread
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.models.settings import Model
from cifar_exp.runs import preflight
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.runner import Runner
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import ROOT, TINY, CommandLine
from tests.made import an_epoch

EPOCH = an_epoch(1)
RUN = LoggedRun(RunConfig(), {}, (), Path())


class Recorder:
    """Records its calls, and fails or hangs in one of them."""

    def __init__(self, fails_in: str = "", hangs_in: str = "") -> None:
        self.calls: list[str] = []
        self.released = threading.Event()
        self._fails_in, self._hangs_in = fails_in, hangs_in

    def begin(self, run: LoggedRun) -> None:
        self._record("begin")

    def epoch(self, metrics: EpochMetrics) -> None:
        self._record("epoch")

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        self._record(f"end {status}")

    def _record(self, call: str) -> None:
        self.calls.append(call)
        if self._fails_in and call.startswith(self._fails_in):
            raise ConnectionError("no route to host\nmore lines")
        if self._hangs_in and call.startswith(self._hangs_in):
            self.released.wait(60)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings that the user sees."""
    lines: list[str] = []
    package = logging.getLogger("cifar_exp")
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", False)
    show_warnings(lines.append)
    return lines


def warning(name: str, problem: str) -> str:
    return f"warning: disabled {name}: {problem}. All data is in the run folder."


def log_run(run_logger: BackgroundLogger, epochs: int = 1) -> None:
    run_logger.begin(RUN)
    for _ in range(epochs):
        run_logger.epoch(EPOCH)
    run_logger.end("complete", {})


def test_calls_are_made_in_order(warnings: list[str]) -> None:
    recorder, thread = Recorder(), LoggerThread("Recorder")
    log_run(BackgroundLogger(recorder, thread), epochs=2)
    thread.close(60)
    assert recorder.calls == ["begin", "epoch", "epoch", "end complete"]
    assert warnings == []


@pytest.mark.parametrize("where", ["begin", "epoch", "end"])
def test_a_service_that_fails_warns_once_and_its_runs_are_ended(
    warnings: list[str], where: str
) -> None:
    thread = LoggerThread("Recorder")
    first, second = Recorder(fails_in=where), Recorder()
    log_run(BackgroundLogger(first, thread), epochs=3)
    log_run(BackgroundLogger(second, thread))
    thread.close(60)
    assert warnings == [warning("Recorder", "ConnectionError: no route to host")]
    assert first.calls.count("epoch") <= (3 if where == "end" else 1)
    assert first.calls[-1] == "end complete"
    assert second.calls == ["end complete"]


def test_a_service_that_hangs_does_not_block(warnings: list[str]) -> None:
    recorder, thread = Recorder(hangs_in="epoch"), LoggerThread("Recorder")
    log_run(BackgroundLogger(recorder, thread), epochs=5000)  # more than the queue holds
    thread.close(0.1)
    assert warnings == [warning("Recorder", "its queue is full")]
    recorder.released.set()


def test_a_service_that_hangs_is_reported_during_training(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_TIMEOUT_SECONDS", 0.0)
    recorder, thread = Recorder(hangs_in="begin"), LoggerThread("Recorder")
    run_logger = BackgroundLogger(recorder, thread)
    run_logger.begin(RUN)
    while not recorder.calls:
        pass
    run_logger.epoch(EPOCH)
    assert warnings == [warning("Recorder", "no response for 0 s")]
    recorder.released.set()
    thread.close(60)


def test_a_service_that_is_slow_at_the_end_is_waited_for_briefly(warnings: list[str]) -> None:
    recorder, thread = Recorder(hangs_in="end"), LoggerThread("Recorder")
    log_run(BackgroundLogger(recorder, thread))
    thread.close(0.1)
    assert warnings == [warning("Recorder", "not finished after 0 s")]
    recorder.released.set()


IN_CPP = """
import threading, torch
from cifar_exp.loggers.background import LoggerThread
from cifar_exp.signals import exit_process

def hang():
    matrix = torch.rand(200, 200)
    while True:
        started.set()
        matrix @ matrix

started, thread = threading.Event(), LoggerThread("Service")
thread.submit(hang)
started.wait()
thread.close(0.1)
print("the end", end="")
exit_process(3)
"""


def test_a_service_that_hangs_in_cpp_code_does_not_abort_the_process_at_its_end() -> None:
    command = [sys.executable, "-c", IN_CPP]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (3, "the end")


def test_a_run_completes_even_if_one_service_fails_and_another_hangs(
    tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    wandb, trackio = types.ModuleType("wandb"), types.ModuleType("trackio")
    wandb.init = trackio.init = lambda **_: released.wait(60)
    trackio.SQLiteStorage = types.SimpleNamespace(get_latest_run_record_by_name=lambda *_: None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # without Settings
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    for name in ("run", "utils", "sqlite_storage"):
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
    released.set()
    assert RunFolder.of(config).status == "complete"
    assert len(warnings) == 2
    assert warnings[0].startswith("warning: disabled W&B: AttributeError: ")
    assert warnings[1].startswith("warning: disabled Trackio: not finished after")


class FullDisk(Recorder):
    """The event file on a full disk: closing it writes its buffer again."""

    def epoch(self, metrics: EpochMetrics) -> None:
        raise OSError("No space left on device")

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        raise OSError("No space left on device")


@pytest.mark.parametrize(
    "log", [lambda run: run.epoch(EPOCH), lambda run: run.end("complete")], ids=["epoch", "end"]
)
def test_services_are_ended_once_if_the_event_file_cannot_be_written(
    log: Callable[[run_loggers.RunLoggers], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Recorder()
    loggers = run_loggers.ProcessLoggers()
    monkeypatch.setattr(loggers, "_of", lambda _: [FullDisk(), service])
    with pytest.raises(OSError, match="No space left"), loggers.following(RUN) as following:
        log(following)
    assert service.calls == ["begin", "end failed"]


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_missing_package_is_reported_before_any_run_starts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda _: None)
    with pytest.raises(UserError) as error:
        preflight.preflight([RunConfig(logger=Logger(**{name: True}))])
    assert str(error.value) == f"logger={name}: not installed. Run pip install -e '.[{name}]'."


def test_an_unknown_logger_is_reported_with_the_known_ones(train: CommandLine) -> None:
    output = train(*TINY, "logger=[tensorboard,wandbb]", status=1)
    assert output.strip() == (
        "logger=wandbb: expected one of mlflow, none, tensorboard, trackio, wandb; "
        "did you mean wandb?"
    )
