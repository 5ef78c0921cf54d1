"""Damaged, torn, missing and foreign files of a run: repaired or refused, never overwritten."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cifar_exp.selftest.workspace import begun_anew, checkpoints, flip_a_bit, wait_for
from tests.conftest import CommandLine, computed, read_rows, read_state
from tests.reliability.faults import SHORT, assert_same_run, end


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("whole"))
    train(*SHORT)
    return train


@pytest.fixture(scope="module")
def killed(tmp_path_factory, command_line) -> CommandLine:
    """A run that was killed when it had two checkpoints."""
    train = command_line(tmp_path_factory.mktemp("killed"))
    process = train.start(*SHORT)
    wait_for(lambda: len(list(train.runs.glob("*/checkpoints/*.json"))) == 2, process)
    end(process)
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


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\0" * 4096)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def tear_its_manifest(path: Path) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text()[:20])


def make_it_another_runs(path: Path) -> None:
    manifest = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(manifest | {"run_id": "0123456789"}))


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch it-ran",)


def write_manifest(path: Path) -> None:
    """As somebody would who wants the file to be believed."""
    manifest = json.loads(path.with_suffix(".json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest | {"sha256": sha256}))


def let_it_run_code(path: Path) -> None:
    torch.save({"model": RunsCode(), "run": {}}, path)
    write_manifest(path)


def let_its_pickle_run_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(RunsCode()))
    write_manifest(path)


def let_it_hold_something_else(path: Path) -> None:
    torch.save([1, 2, 3], path)
    write_manifest(path)


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_bit: "its content does not match its sha256",
    zero_a_page: "its content does not match its sha256",
    cut_off: "its content does not match its sha256",
    empty: "its content does not match its sha256",
    tear_its_manifest: "its manifest cannot be read",
    make_it_another_runs: "it belongs to run 0123456789",
    let_it_run_code: "it cannot be read (UnpicklingError)",
    let_its_pickle_run_code: "it cannot be read (",
    let_it_hold_something_else: "it holds no checkpoint",
}
LIKEWISE = (zero_a_page, empty, tear_its_manifest, let_it_run_code, let_it_hold_something_else)


@pytest.mark.parametrize(
    "damage",
    [pytest.param(damage, marks=[pytest.mark.slow] * (damage in LIKEWISE)) for damage in DAMAGES],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    train: CommandLine, whole: CommandLine, damage: Callable[[Path], None]
) -> None:
    before, newest = checkpoints(train.only_run)
    damage(newest)
    said = train(*SHORT)
    told = f"{newest.name} is passed over: {DAMAGES[damage]}"
    assert told in said
    log = (train.only_run / "train.log").read_text()
    assert told in log
    steps = int(before.stem.removeprefix("step-"))
    assert f"step {steps}\n" in log
    assert not list(train.folder.rglob("it-ran"))
    assert_same_run(train.only_run, whole.only_run)


def test_with_no_checkpoint_left_it_starts_again_only_when_asked_to(
    train: CommandLine, whole: CommandLine
) -> None:
    for path in checkpoints(train.only_run):
        flip_a_bit(path)
    before = read_rows(train.only_run)
    said = train(*SHORT, status=1)
    assert "none of its 2 checkpoints can be used, so it cannot go on" in said
    assert "resume=fresh sets aside what there is and starts again" in said
    assert read_rows(train.only_run) == before
    assert begun_anew(train.only_run) == 1

    train(*SHORT, "resume=fresh")
    assert_same_run(train.only_run, whole.only_run)
    assert read_rows(train.only_run / ".replaced") == before


def test_a_run_whose_checkpoints_are_gone_is_not_started_again_by_itself(
    train: CommandLine, whole: CommandLine
) -> None:
    shutil.rmtree(train.only_run / "checkpoints")
    before = read_rows(train.only_run)
    assert "its checkpoints are gone, so it cannot go on" in train(*SHORT, status=1)
    assert read_rows(train.only_run) == before
    train(*SHORT, "resume=fresh")
    assert_same_run(train.only_run, whole.only_run)


def test_fresh_lets_a_run_go_on_that_can(train: CommandLine, whole: CommandLine) -> None:
    train(*SHORT, "resume=fresh")
    assert begun_anew(train.only_run) == 1
    assert_same_run(train.only_run, whole.only_run)


def test_a_torn_line_of_metrics_is_written_again(train: CommandLine, whole: CommandLine) -> None:
    metrics = train.only_run / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text[: len(text) - 30])
    train(*SHORT)
    assert_same_run(train.only_run, whole.only_run)


@pytest.mark.parametrize(
    "content", [None, '{"status": "runn', pytest.param("null", marks=pytest.mark.slow)]
)
def test_a_half_done_run_does_without_its_run_json(
    train: CommandLine, whole: CommandLine, content: str | None
) -> None:
    file = train.only_run / "run.json"
    file.unlink() if content is None else file.write_text(content)
    train(*SHORT)
    assert begun_anew(train.only_run) == 1
    assert_same_run(train.only_run, whole.only_run)
    assert read_state(train.only_run)["status"] == "complete"


@pytest.mark.parametrize("content", [None, '{"status": "compl'])
def test_a_complete_run_gets_its_run_json_back(complete: CommandLine, content: str | None) -> None:
    run = complete.only_run
    before = read_state(run)
    file = run / "run.json"
    file.unlink() if content is None else file.write_text(content)
    said = complete(*SHORT)
    assert "run.json could not be read, and was made anew" in said
    assert "finished before, not repeated" in said
    after = read_state(run)
    for key in ("status", "run_id", "test_accuracy", "best_test_accuracy", "seconds", "epochs"):
        assert after[key] == before[key]


def test_a_complete_run_that_has_lost_metrics_is_refused(
    complete: CommandLine, whole: CommandLine
) -> None:
    metrics = complete.only_run / "metrics.jsonl"
    text = metrics.read_text()
    metrics.write_text(text[: len(text) - 30])
    said = complete(*SHORT, status=1)
    assert "metrics.jsonl lacks epochs that run.json counts" in said
    assert metrics.read_text() == text[: len(text) - 30]
    complete(*SHORT, "resume=fresh")
    assert computed(complete.only_run) == computed(whole.only_run)


def test_a_folder_whose_config_disagrees_is_refused_with_the_difference(
    complete: CommandLine,
) -> None:
    config = complete.only_run / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.002"))
    for arguments in (SHORT, (*SHORT, "rerun=true"), (*SHORT, "resume=fresh")):
        said = complete(*arguments, status=1)
        assert "holds other settings than this run's" in said
        assert '-"lr": 0.002' in said
        assert '+"lr": 0.001' in said
        assert "move the folder away" in said
        assert len(said.strip().splitlines()) <= 4
    assert "lr: 0.002" in config.read_text()


@pytest.mark.parametrize("content", ["", "][", "a: b", "\0\0\0\0"])
def test_a_config_that_cannot_be_read_is_refused(complete: CommandLine, content: str) -> None:
    config = complete.only_run / "config.yaml"
    config.write_text(content)
    said = complete(*SHORT, status=1)
    assert "expected the settings of a run, but they cannot be read" in said
    assert "Traceback" not in said
    assert config.read_text() == content
