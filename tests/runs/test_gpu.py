"""Runs, workers and sweeps on a GPU: `python -m pytest -m gpu`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cifar_exp.config.schema import Paths
from cifar_exp.config.schema import Training as Length
from cifar_exp.errors import UserError
from cifar_exp.inference.evaluate import difference_from_training, evaluate
from cifar_exp.inference.load import load_run
from cifar_exp.inference.test_data import data_settings, labelled_images
from cifar_exp.runs import artifacts
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted
from cifar_exp.sweeps import worker
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.messages import Ended, Train
from cifar_exp.training import throttle
from tests.conftest import ROOT, computed, read_state
from tests.cuda_emulator.plugin import is_emulated
from tests.on_gpu import GPU, config, data
from tests.reliability.hold import LONGEST_WAIT_SECONDS
from tests.sweeps.test_worker import Connection

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluate_returns_the_test_accuracy_of_training(tmp_path: Path, precision: str) -> None:
    run = config(tmp_path, precision=precision, data=data(normalize="channels", test_flip=True))
    list(Runner().run(run))
    folder = RunFolder.of(run).path
    trained = load_run(folder, "cuda")
    evaluation = evaluate(trained, labelled_images(trained, data_settings(trained)))
    assert difference_from_training(trained, evaluation) is None


def test_predictions_are_computed_in_fp32_and_deterministically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    original = artifacts._predicted

    def predicted(training: object) -> torch.Tensor:
        def add_flags(*_: object) -> None:
            flags = torch.backends.cudnn
            seen.add((flags.allow_tf32, flags.deterministic, flags.benchmark))

        training.model.register_forward_hook(add_flags)  # type: ignore[attr-defined]
        return original(training)  # type: ignore[arg-type]

    monkeypatch.setattr(artifacts, "_predicted", predicted)
    list(Runner().run(config(tmp_path, training=Length(epochs=1))))
    assert seen == {(False, True, False)}


@pytest.mark.parametrize(
    "event", [2, *(pytest.param(event, marks=pytest.mark.slow) for event in (0, 5))]
)
def test_an_interrupted_run_resumes_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: int
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    stopped, whole = config(tmp_path / "stopped"), config(tmp_path / "whole")
    list(Runner().run(whole))
    events = Runner().run(stopped)
    for _ in range(event + 1):
        next(events)
    with pytest.raises(Interrupted):
        events.throw(Interrupted(15))
    del events
    list(Runner().run(stopped))
    assert computed(RunFolder.of(stopped).path) == computed(RunFolder.of(whole).path)


def test_a_run_without_enough_memory_fails_and_a_concurrent_run_continues(
    tmp_path: Path,
) -> None:
    small, alone = config(tmp_path / "packed"), config(tmp_path / "alone")
    list(Runner().run(alone))
    big = config(tmp_path / "packed", data=data(train_size=600, batch_size=600), seed=1)
    runner = Runner()
    events = runner.run(small)
    next(events)
    used, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((used + 5_000_000) / total)
    try:
        with pytest.raises(UserError, match="out of memory"):
            list(runner.run(big))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    list(events)
    assert computed(RunFolder.of(small).path) == computed(RunFolder.of(alone).path)


def test_the_memory_of_a_finished_run_is_free_for_the_next(tmp_path: Path) -> None:
    runs = [config(tmp_path, seed=seed, training=Length(epochs=1)) for seed in range(2)]
    connection = Connection()
    gpu_worker = worker._Worker(connection, Allocation(gpu=0, threads=1, concurrent=1))  # type: ignore[arg-type]
    reserved = []
    for number, run in enumerate(runs):
        connection.received.append(Train(number, run, ()))
        gpu_worker._receive()
        while number in gpu_worker._runs:
            gpu_worker._advance(number)
        reserved.append(torch.cuda.memory_reserved())
        assert Ended(number) in connection.sent
        if is_emulated():  # a GPU's allocator reserves whole blocks
            assert reserved[-1] == torch.cuda.memory_allocated()
    assert reserved[0] == reserved[1]


def test_a_device_that_raises_in_synchronize_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.zeros(1, device=GPU)
    assert worker._device_works()

    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    assert not worker._device_works()


def train_py(folder: Path, environment: dict[str, str], *overrides: str) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error::UserWarning", str(ROOT / "train.py")),
            *("device=cuda", "experiment=demo", "epochs=2", "model=vgg11", "model.width=0.0625"),
            *("data.train_size=40", "data.test_size=20", "batch_size=16", "logger=none"),
            *overrides,
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.integration
def test_three_packed_runs_equal_a_run_alone_and_a_resumed_one(
    tmp_path: Path, gpu_environment: dict[str, str]
) -> None:
    packed, alone = tmp_path / "packed", tmp_path / "alone"
    packed.mkdir()
    output = train_py(
        packed, gpu_environment, "-m", "seed=0,1,2", "hydra.launcher.runs_per_device=3"
    )
    runs = {read_state(run)["name"]: run for run in packed.glob("*/runs/*")}
    assert len(runs) == 3, output
    assert "cannot be captured" not in output
    assert {read_state(run)["compute"]["device"] for run in runs.values()} == {"cuda"}
    paths = Paths(**{name: str(alone / name) for name in ("results", "logs", "cache")})
    first, second, stopped = (
        RunFolder(run).read_config().model_copy(update={"paths": paths}) for run in runs.values()
    )
    for run in (first, second):
        list(Runner().run(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
        events = Runner().run(stopped)
        for _ in range(3):
            next(events)
        with pytest.raises(Interrupted):
            events.throw(Interrupted(15))
        del events
    list(Runner().run(stopped))
    solo = {read_state(run)["name"]: run for run in alone.glob("results/runs/*")}
    assert solo.keys() == runs.keys()
    for name, run in runs.items():
        assert computed(run) == computed(solo[name]), name
