"""A longer run continues a shorter one, or reports why it cannot."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.data.dataset import Dataset
from cifar_exp.runs.continuing import Shorter, checkpoint_room, continuing_lines, shorter_run
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.preflight import preflight
from cifar_exp.schedulers import Constant, Cosine, OneCycle
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import TINY, CommandLine, computed, read_rows, read_state
from tests.runs.test_runner import config, finish

LOG = "cifar_exp"


def of_epochs(folder: Path, epochs: int, **changes: object) -> RunConfig:
    return config(folder, training=Training(epochs=epochs), **changes)


def assert_equal(one: Path, other: Path) -> None:
    assert computed(one) == computed(other)
    first, second = (load_file(path / "model.safetensors") for path in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def continues(longer: Path, short: Path) -> bool:
    """Return whether the longer run has the rows of the short run, including their times."""
    rows = read_rows(short)
    return read_rows(longer)[: len(rows)] == rows


def test_a_longer_run_continues_a_shorter_one_with_the_same_bits(tmp_path: Path) -> None:
    short = finish(of_epochs(tmp_path, 1))
    (checkpoint,) = (short / "checkpoints").glob("*.pt")
    before = computed(short)
    longer = finish(of_epochs(tmp_path, 3))
    assert continues(longer, short)
    assert read_state(longer)["began_as"] == short.name[-10:]
    assert_equal(longer, finish(of_epochs(tmp_path / "in one go", 3)))
    assert computed(short) == before
    assert checkpoint.exists()


def test_the_longest_run_is_continued_and_all_its_epochs_are_yielded(tmp_path: Path) -> None:
    from cifar_exp.runs.runner import Runner

    finish(of_epochs(tmp_path, 1, scheduler=Constant()))
    short = finish(of_epochs(tmp_path, 2, scheduler=Constant()))
    longest = of_epochs(tmp_path, 3, scheduler=Constant())
    events = Runner(threads=1).run(longest)
    epochs = [event.epoch for event in events if isinstance(event, EpochMetrics)]
    assert epochs == [1, 2, 3]  # the pruner of a search needs all of them
    assert continues(RunFolder.of(longest).path, short)


@pytest.mark.parametrize("scheduler", [Cosine(), OneCycle()])
def test_a_schedule_that_depends_on_the_epochs_is_reported(tmp_path: Path, scheduler) -> None:
    short = finish(of_epochs(tmp_path, 1, scheduler=scheduler))
    assert not (short / "checkpoints").exists()  # no run could continue from it
    longer = of_epochs(tmp_path, 2, scheduler=scheduler)
    reason = f"from epoch 1: with scheduler={scheduler.name} the learning rates depend on"
    assert str(shorter_run(longer)).startswith(f"starts {reason}")
    assert continuing_lines(new(longer), [])[0].startswith(f"1 of the new runs start {reason}")
    assert not continues(finish(longer), short)


def new(*configs: RunConfig) -> list[tuple[RunConfig, Shorter | None]]:
    return [(config, shorter_run(config)) for config in configs]


def test_a_sweep_reports_such_a_schedule_as_well(tmp_path: Path) -> None:
    from cifar_exp.config.identity import run_id

    runs = [of_epochs(tmp_path, epochs, scheduler=Cosine()) for epochs in (1, 2)]
    (line,) = continuing_lines(new(*runs), [run_id(run) for run in runs])
    assert line.startswith("1 of the new runs start from epoch 1: with scheduler=cosine")
    constant = [of_epochs(tmp_path, epochs, scheduler=Constant()) for epochs in (1, 2)]
    assert continuing_lines(new(*constant), [run_id(run) for run in constant]) == []


def test_without_its_checkpoint_a_run_cannot_be_continued(tmp_path: Path) -> None:
    short = finish(of_epochs(tmp_path, 1, keep_checkpoint=False))
    assert not (short / "checkpoints").exists()
    longer = of_epochs(tmp_path, 2)
    assert str(shorter_run(longer)) == f"starts from epoch 1: {short.name} has no checkpoint"
    assert not continues(finish(longer), short)


def test_a_run_on_other_images_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger(LOG), "propagate", True)
    short = finish(of_epochs(tmp_path, 1))
    monkeypatch.setattr(Dataset, "digest", lambda self: "0" * 64)
    longer = finish(of_epochs(tmp_path, 2))
    assert not continues(longer, short)
    assert f"does not continue {short.name}: the images have changed" in caplog.text


def test_a_rerun_trains_all_its_epochs(tmp_path: Path) -> None:
    short = finish(of_epochs(tmp_path, 1))
    assert continues(finish(of_epochs(tmp_path, 2)), short)
    assert not continues(finish(of_epochs(tmp_path, 2, rerun=True)), short)


def test_preflight_returns_the_size_of_the_last_checkpoints(tmp_path: Path) -> None:
    run = of_epochs(tmp_path, 1)
    expected = preflight([run]).kept_bytes
    checkpoint = next((finish(run) / "checkpoints").glob("*.pt"))
    assert expected == pytest.approx(checkpoint.stat().st_size, rel=0.2)
    assert preflight([of_epochs(tmp_path, 1, keep_checkpoint=False)]).kept_bytes == 0
    assert preflight([of_epochs(tmp_path, 1, scheduler=Cosine())]).kept_bytes == 0


def test_only_large_checkpoints_are_reported() -> None:
    assert checkpoint_room(5_000_000) is None
    assert checkpoint_room(1_200_000_000) == (
        "The last checkpoints of these runs will take 1.2 GB; "
        "`python -m cifar_exp gc --yes` deletes them."
    )


@pytest.mark.slow
@pytest.mark.integration
def test_a_sweep_continues_the_runs_of_a_shorter_sweep(train: CommandLine) -> None:
    tiny = (*TINY, "data.train_size=20", "data.test_size=10", "batch_size=10", "logger=none")
    train("-m", *tiny, "epochs=1", "seed=0,1")
    output = train("-m", *tiny, "epochs=2", "seed=0,1,2")
    assert "2 of the new runs continue shorter runs" in output
    assert "last checkpoints" not in output  # they are small
    output = train(*tiny, "epochs=3")
    assert "continues after epoch 2 of " in output
    freed = train.cifar_exp("gc", "--yes")
    assert freed.count("checkpoints") == 6
    assert "has no checkpoint" in train(*tiny, "epochs=4")
