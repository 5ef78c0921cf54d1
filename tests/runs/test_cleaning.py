"""`gc` deletes the checkpoints of finished runs, and nothing else."""

import errno
import json
from pathlib import Path

import pytest

from cifar_exp.config.identity import run_id
from cifar_exp.config.load import to_yaml
from cifar_exp.config.schema import RunConfig, Training
from cifar_exp.runs.cleaning import leftovers
from cifar_exp.runs.folder import RunFolder
from tests.conftest import CommandLine

CHECKPOINT = "checkpoints/step-000000000001.pt"
ID = run_id(RunConfig(training=Training(epochs=1)))
ROW = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}


def make_run(train: CommandLine, name: str, status: str, seed: int = 0) -> Path:
    """Write a run with 2 MB of checkpoints and 1 MB of replaced files."""
    config = RunConfig(seed=seed, training=Training(epochs=1))
    run = train.runs / f"{name}-{run_id(config)}"
    for file, size in ((CHECKPOINT, 2_000_000), (".replaced/train.log", 1_000_000)):
        (run / file).parent.mkdir(parents=True)
        (run / file).write_bytes(bytes(size))
    (run / "config.yaml").write_text(to_yaml(config))
    (run / "run.json").write_text(json.dumps({"status": status}))
    (run / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
    return run


def test_without_yes_gc_lists_the_folders_only(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    output = train.cifar_exp("gc")
    assert f"     2.0 MB  multirun_results/runs/a-{ID}/checkpoints\n" in output
    assert output.endswith("2.0 MB would be freed; add --yes to delete these files\n")
    assert (run / CHECKPOINT).exists()


def test_checkpoints_of_finished_runs_are_deleted(train: CommandLine) -> None:
    runs = [make_run(train, "a", "complete"), make_run(train, "b", "diverged", seed=1)]
    assert train.cifar_exp("gc", "--yes").endswith("4.0 MB freed\n")
    for run in runs:
        assert not (run / "checkpoints").exists()
        assert (run / ".replaced/train.log").exists()
        assert (run / "metrics.jsonl").exists()
    assert train.cifar_exp("gc", "--yes").endswith(": found no checkpoints to delete\n")


@pytest.mark.parametrize("status", ["running", "failed", "pending"])
def test_checkpoints_of_unfinished_runs_are_kept(train: CommandLine, status: str) -> None:
    run = make_run(train, "a", status)  # running without a process is interrupted
    assert train.cifar_exp("gc", "--yes", "--replaced").endswith("no checkpoints to delete\n")
    assert (run / CHECKPOINT).exists()
    assert (run / ".replaced/train.log").exists()


def test_checkpoints_of_interrupted_runs_are_deleted_with_interrupted_only(
    train: CommandLine,
) -> None:
    run, failed = make_run(train, "a", "running"), make_run(train, "b", "failed", seed=1)
    assert train.cifar_exp("gc", "--interrupted", "--yes").endswith("2.0 MB freed\n")
    assert not (run / "checkpoints").exists()
    assert (run / "metrics.jsonl").exists()
    assert (failed / CHECKPOINT).exists()


def test_a_run_without_metrics_keeps_its_checkpoints(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    (run / "metrics.jsonl").unlink()
    train.cifar_exp("gc", "--yes")
    assert (run / CHECKPOINT).exists()


def test_replaced_files_are_deleted_with_replaced_only(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    assert train.cifar_exp("gc", "--yes", "--replaced").endswith("3.0 MB freed\n")
    assert not (run / ".replaced").exists()


def test_a_locked_run_is_kept(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    with RunFolder(run).lock():
        output = train.cifar_exp("gc", "--yes")
    assert "(kept: the run is being trained)" in output
    assert output.endswith("0.0 MB freed\n")
    assert (run / CHECKPOINT).exists()


def test_links_are_not_followed(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    (run / "checkpoints").rename(train.folder / "mine")
    (run / "checkpoints").symlink_to(train.folder / "mine")
    train.cifar_exp("gc", "--yes")
    assert (train.folder / "mine" / Path(CHECKPOINT).name).exists()


def test_user_files_among_checkpoints_are_kept(train: CommandLine) -> None:
    run = make_run(train, "a", "complete")
    (run / "checkpoints" / "notes.txt").write_text("mine")
    train.cifar_exp("gc", "--yes")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["notes.txt"]


def test_everything_is_kept_on_a_read_only_disk(
    train: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(train, "a", "complete")

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(RunFolder, "lock", read_only)
    (leftover,) = leftovers(train.runs.parent)
    assert leftover.remove() == "Read-only file system"
    assert (run / CHECKPOINT).exists()
