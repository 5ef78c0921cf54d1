"""The runner: locks, resuming, and changes to a run's files during training."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.errors import UserError
from cifar_exp.models.settings import Model
from cifar_exp.optimizers import Sgd
from cifar_exp.reports.content import provenance_of
from cifar_exp.runs.folder import BusyError, RunFolder
from cifar_exp.runs.record import read_record
from cifar_exp.runs.runner import Runner
from cifar_exp.runs.train_one import train_one
from cifar_exp.signals import Interrupted
from cifar_exp.training.process_group import OthersEndedError
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import computed, read_state


def config(folder: Path, **changes: object) -> RunConfig:
    usual = {
        # 16 steps per epoch, more than between two yields
        "data": Synthetic(train_size=256, test_size=40, batch_size=16, augment="crop_flip"),
        "model": Model(name="vgg11", width=1 / 16, dropout=0.5),
        "training": Training(epochs=3),
        "device": "cpu",
        "logger": Logger(tensorboard=False),
        "paths": Paths(results=str(folder), logs=str(folder / "logs")),
    }
    return RunConfig.model_validate(usual | changes)


def finish(config: RunConfig) -> Path:
    for _ in Runner(threads=1).run(config):
        pass
    return RunFolder.of(config).path


def test_the_end_of_another_process_is_not_a_failure_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> Iterator[EpochMetrics]:
        yield from ()
        raise OthersEndedError("process 1 has ended")

    monkeypatch.setattr(Runner, "_train", train)
    with pytest.raises(OthersEndedError):  # which all_processes expects
        finish(config(tmp_path))


def test_runs_that_one_process_trains_in_turn_have_the_same_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")  # otherwise it determines the number
    before = torch.get_num_threads()
    short_steps = config(tmp_path, training=Training(epochs=1))
    try:
        torch.set_num_threads(2)
        train_one(short_steps)
        assert read_state(RunFolder.of(short_steps).path)["compute"]["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_second_runner_is_refused_while_a_run_trains(tmp_path: Path) -> None:
    first = Runner(threads=1).run(config(tmp_path))
    next(first)
    with pytest.raises(BusyError, match="another process is training this run"):
        next(Runner(threads=1).run(config(tmp_path)))
    first.close()
    finish(config(tmp_path))
    assert RunFolder.of(config(tmp_path)).status == "complete"


def test_an_interrupted_run_resumes_within_its_epoch_and_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    interrupted, whole = config(tmp_path / "interrupted"), config(tmp_path / "whole")
    run = Runner(threads=1).run(interrupted)
    while not isinstance(next(run), EpochMetrics):  # to the end of the first epoch
        pass
    steps = next(run).steps
    assert 16 < steps < 32
    with pytest.raises(Interrupted):
        run.throw(Interrupted(15))
    assert (RunFolder.of(interrupted).path / "checkpoints" / f"step-{steps:012d}.pt").exists()
    first_event, *_ = list(Runner(threads=1).run(interrupted))
    if isinstance(first_event, EpochMetrics):  # the epoch had no further yield
        assert first_event.epoch == 2
    else:
        assert first_event.steps > steps
    resumed, expected = RunFolder.of(interrupted).path, finish(whole)
    assert computed(resumed) == computed(expected)
    first, second = (load_file(path / "model.safetensors") for path in (resumed, expected))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_is_resumed_elsewhere_records_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = config(tmp_path)
    for commit in ("first", "second", "second"):
        monkeypatch.setattr("cifar_exp.runs.provenance._commit", lambda commit=commit: commit)
        run = Runner(threads=1).run(short)
        while not isinstance(next(run), EpochMetrics):
            pass
        if commit == "first":
            assert "earlier" not in read_state(RunFolder.of(short).path)
        with pytest.raises(Interrupted):
            run.throw(Interrupted(15))
    record = read_record(RunFolder.of(short))
    (part,) = record.state["earlier"]
    assert part["provenance"]["commit"] == "first"
    assert part["compute"] == record.state["compute"]
    assert provenance_of([record])["commit"] == "first, second"


def test_a_diverged_run_keeps_its_metrics_and_has_not_failed(tmp_path: Path) -> None:
    diverging = config(tmp_path, optimizer=Sgd(lr=1e9))
    path = finish(diverging)
    folder = RunFolder.of(diverging)
    assert "diverged in epoch 1" in folder.outcome()
    assert folder.status == "diverged"
    assert len(folder.read_metrics()) == 1
    assert (path / "curves.png").exists()
    assert not (path / "model.safetensors").exists()


def quick(folder: Path, **changes: object) -> RunConfig:
    """Return a run of two epochs with two steps each."""
    data = Synthetic(train_size=32, test_size=10, batch_size=16)
    model = Model(name="vgg11", width=1 / 64)
    return config(
        folder, **({"data": data, "model": model, "training": Training(epochs=2)} | changes)
    )


@pytest.mark.parametrize("then", ["nothing", "another process"])
def test_a_run_whose_folder_is_deleted_stops_with_the_reason(tmp_path: Path, then: str) -> None:
    run = Runner(threads=1).run(quick(tmp_path))
    while not isinstance(next(run), EpochMetrics):
        pass
    folder = RunFolder.of(quick(tmp_path))
    shutil.rmtree(folder.path)
    other = Runner(threads=1).run(quick(tmp_path))
    if then == "another process":
        next(other)
    with pytest.raises(UserError, match="was deleted or replaced during training"):
        for _ in run:
            pass
    if then == "nothing":
        assert not folder.path.exists()
        return
    for _ in other:
        pass
    assert folder.status == "complete"
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2]


@pytest.mark.parametrize("how", ["deleted", "changed"])
def test_a_run_whose_metrics_are_changed_during_training_fails(tmp_path: Path, how: str) -> None:
    run = Runner(threads=1).run(quick(tmp_path))
    while not isinstance(next(run), EpochMetrics):
        pass
    folder = RunFolder.of(quick(tmp_path))
    folder.metrics_file.unlink() if how == "deleted" else folder.write_metrics([])
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        for _ in run:
            pass
    assert folder.status == "failed"
    finish(quick(tmp_path))
    assert [row["epoch"] for row in folder.read_metrics()] == [1, 2]


def test_settings_that_are_deleted_during_training_are_restored(tmp_path: Path) -> None:
    run = Runner(threads=1).run(quick(tmp_path))
    next(run)
    folder = RunFolder.of(quick(tmp_path))
    folder.config_file.unlink()
    for _ in run:
        pass
    assert folder.status == "complete"
    assert "config.yaml" in folder.read_state()["sha256"]
    assert read_record(folder).config.data == quick(tmp_path).data


def test_a_finished_run_can_be_on_a_read_only_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(quick(tmp_path))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(RunFolder, "lock", read_only)
    assert finish(quick(tmp_path)).is_dir()


def test_a_changed_run_is_trained_again_only_with_resume_fresh(tmp_path: Path) -> None:
    path = finish(quick(tmp_path))
    whole = computed(path)
    metrics = path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    with pytest.raises(UserError, match=r"does not match its sha256.*resume=fresh"):
        finish(quick(tmp_path))
    finish(quick(tmp_path, resume="fresh"))
    assert computed(path) == whole


def test_a_damaged_shorter_run_does_not_stop_a_longer_run(tmp_path: Path) -> None:
    short = quick(tmp_path, training=Training(epochs=1))
    folder = RunFolder.of(short)
    folder.claim(short)
    folder.config_file.write_text("damaged")
    for _ in Runner(threads=1).run(quick(tmp_path), [short]):
        pass
    assert RunFolder.of(quick(tmp_path)).status == "complete"
    assert folder.config_file.read_text() == "damaged"
