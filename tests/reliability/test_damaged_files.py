"""Damaged and missing files of a run are repaired or refused, and never overwritten."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine, computed, read_rows, read_state
from tests.made import edit
from tests.reliability.faults import (
    SHORT,
    assert_same_run,
    checkpoints,
    flip_a_bit,
    kill_with_two_checkpoints,
    times_started,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("whole"))
    train(*SHORT)
    return train


@pytest.fixture(scope="module")
def killed(tmp_path_factory, command_line) -> CommandLine:
    """A killed run with two checkpoints."""
    train = command_line(tmp_path_factory.mktemp("killed"))
    kill_with_two_checkpoints(train, *SHORT)
    assert read_state(train.only_run)["status"] == "running"
    return train


@pytest.fixture
def train(tmp_path: Path, killed: CommandLine, command_line) -> CommandLine:
    """A copy of the killed run's folder."""
    shutil.copytree(killed.folder, tmp_path / "copy")
    return command_line(tmp_path / "copy")


@pytest.fixture
def complete(tmp_path: Path, whole: CommandLine, command_line) -> CommandLine:
    """A copy of the complete run's folder."""
    shutil.copytree(whole.folder, tmp_path / "complete")
    return command_line(tmp_path / "complete")


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    train: CommandLine, whole: CommandLine
) -> None:
    before, newest = checkpoints(train.only_run)
    flip_a_bit(newest)
    message = f"{newest.name} is skipped: its content does not match its sha256"
    assert message in train(*SHORT)
    log = (train.only_run / "train.log").read_text()
    assert message in log
    steps = int(before.stem.removeprefix("step-"))
    assert f"step {steps}\n" in log
    assert_same_run(train.only_run, whole.only_run)


def test_a_run_with_damaged_checkpoints_restarts_only_with_resume_fresh(
    train: CommandLine, whole: CommandLine
) -> None:
    for path in checkpoints(train.only_run):
        flip_a_bit(path)
    before = read_rows(train.only_run)
    output = train(*SHORT, status=1)
    assert "none of the 2 checkpoints can be loaded, so the run cannot be resumed" in output
    assert "Use resume=fresh to move its files to .replaced and start again." in output
    assert read_rows(train.only_run) == before
    assert times_started(train.only_run) == 1

    train(*SHORT, "resume=fresh")
    assert_same_run(train.only_run, whole.only_run)
    assert read_rows(train.only_run / ".replaced") == before


def test_a_run_with_missing_checkpoints_restarts_only_with_resume_fresh(
    train: CommandLine, whole: CommandLine
) -> None:
    shutil.rmtree(train.only_run / "checkpoints")
    before = read_rows(train.only_run)
    assert "the checkpoints are missing, so the run cannot be resumed" in train(*SHORT, status=1)
    swept = train("-m", *SHORT, status=1)
    assert swept.endswith("failed. Do what their messages say, and run the same command again.\n")
    assert read_rows(train.only_run) == before
    train(*SHORT, "resume=fresh")
    assert_same_run(train.only_run, whole.only_run)


def test_resume_fresh_resumes_a_run_with_a_checkpoint(
    train: CommandLine, whole: CommandLine
) -> None:
    train(*SHORT, "resume=fresh")
    assert times_started(train.only_run) == 1
    assert_same_run(train.only_run, whole.only_run)


def test_an_incomplete_line_of_metrics_is_rewritten(train: CommandLine, whole: CommandLine) -> None:
    metrics = train.only_run / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text[: len(text) - 30])
    train(*SHORT)
    assert_same_run(train.only_run, whole.only_run)


@pytest.mark.parametrize(
    "content", [None, '{"status": "runn', pytest.param("null", marks=pytest.mark.slow)]
)
def test_an_interrupted_run_resumes_without_its_run_json(
    train: CommandLine, whole: CommandLine, content: str | None
) -> None:
    file = train.only_run / "run.json"
    file.unlink() if content is None else file.write_text(content)
    train(*SHORT)
    assert times_started(train.only_run) == 1
    assert_same_run(train.only_run, whole.only_run)
    assert read_state(train.only_run)["status"] == "complete"


@pytest.mark.parametrize("content", [None, '{"status": "compl'])
def test_a_complete_run_without_run_json_is_restored_from_its_checkpoint(
    complete: CommandLine, whole: CommandLine, content: str | None
) -> None:
    run = complete.only_run
    before = read_state(run)
    file = run / "run.json"
    file.unlink() if content is None else file.write_text(content)
    edit(run / "metrics.jsonl", '"train_accuracy": 0.', '"train_accuracy": 0.9')
    flip_a_bit(run / "model.safetensors")
    complete(*SHORT)
    assert times_started(run) == 1
    after = read_state(run)
    assert after["status"] == "complete"
    for name in ("config.yaml", "model.json", "model.safetensors"):
        assert after["sha256"][name] == before["sha256"][name]
    assert_same_run(run, whole.only_run)


def test_a_rebuilt_run_json_does_not_vouch_for_the_files(complete: CommandLine) -> None:
    run = complete.only_run
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints")
    flip_a_bit(run / "model.safetensors")
    output = complete("-m", *SHORT)
    assert "rebuilt without sha256 sums, so the files are not checked" in output
    assert "1 run has no sha256 sums in run.json, so the files are not checked" in output
    after = read_state(run)
    assert (after["status"], after["run_id"]) == ("complete", run.name.rpartition("-")[2])
    assert "sha256" not in after


def test_a_run_json_is_not_rebuilt_from_damaged_metrics(
    complete: CommandLine, whole: CommandLine
) -> None:
    run = complete.only_run
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints")
    edit(run / "metrics.jsonl", '"epoch": 2', '"epoch": 7')
    output = complete(*SHORT, status=1)
    assert "the checkpoints are missing, so the run cannot be resumed" in output
    complete(*SHORT, "resume=fresh")
    assert "sha256" in read_state(run)
    assert_same_run(run, whole.only_run)


def test_a_complete_run_with_missing_metrics_is_refused(
    complete: CommandLine, whole: CommandLine
) -> None:
    metrics = complete.only_run / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text[: len(text) - 30])
    output = complete(*SHORT, status=1)
    assert "metrics.jsonl does not match its sha256 in run.json" in output
    assert metrics.read_text() == text[: len(text) - 30]
    complete(*SHORT, "resume=fresh")
    assert computed(complete.only_run) == computed(whole.only_run)


@pytest.mark.parametrize(
    ("edit", "difference"),
    [
        (("lr: 0.001", "lr: 0.002"), "optimizer.lr=0.002 instead of 0.001"),
        (("- 75\n", "- 10\n"), "scheduler.milestones=[10, 150] instead of [75, 150]"),
    ],
)
def test_a_folder_with_other_settings_is_refused_with_the_difference(
    complete: CommandLine, edit: tuple[str, str], difference: str
) -> None:
    config = complete.only_run / "config.yaml"
    edited = config.read_text().replace(*edit)
    config.write_text(edited)
    for arguments in (SHORT, (*SHORT, "rerun=true"), (*SHORT, "resume=fresh")):
        output = complete(*arguments, status=1)
        assert "has other settings than this run" in output
        assert difference in output
        assert "Move the folder away" in output
        assert len(output.strip().splitlines()) <= 4
    assert config.read_text() == edited


@pytest.mark.parametrize("content", ["", "][", "a: b", "\0\0\0\0"])
def test_an_unreadable_config_is_refused(complete: CommandLine, content: str) -> None:
    config = complete.only_run / "config.yaml"
    config.write_text(content)
    output = complete(*SHORT, status=1)
    assert "expected the settings of a run, but the file cannot be read" in output
    assert "Traceback" not in output
    assert config.read_text() == content
