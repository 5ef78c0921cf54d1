"""Checkpoints: which one is loaded, and which are skipped and why."""

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cifar_exp.runs.checkpoint import Checkpoints, DamagedError
from tests.reliability.faults import flip_a_bit

LOG = logging.getLogger("cifar_exp.tests.checkpoint")


def state(steps: int) -> dict[str, object]:
    # larger than the part that `zero_a_page` overwrites
    return {"model": {"weight": torch.full((8000,), float(steps))}, "run": {"steps": steps}}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """The checkpoints of a run after 10 and 20 steps."""
    saved = Checkpoints(tmp_path / "checkpoints", "0000000000", LOG)
    for steps in (10, 20):
        saved.save(steps, state(steps))
    return saved


def steps_of(loaded: dict[str, object] | None) -> object:
    assert loaded is not None
    return loaded["run"]["steps"]


def zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\0" * 4096)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete_its_manifest(path: Path) -> None:
    path.with_suffix(".json").unlink()


def truncate_its_manifest(path: Path) -> None:
    manifest = path.with_suffix(".json")
    manifest.write_text(manifest.read_text()[:20])


def change_its_run_id(path: Path) -> None:
    manifest = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(manifest | {"run_id": "0123456789"}))


class RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("it-ran",)


def write_manifest(path: Path) -> None:
    """Update the sum of a changed checkpoint, as an attacker would."""
    manifest = json.loads(path.with_suffix(".json").read_text())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(manifest | {"sha256": sha256}))


def store_code(path: Path) -> None:
    torch.save({"model": RunsCode(), "run": {}}, path)
    write_manifest(path)


def store_a_pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(RunsCode()))
    write_manifest(path)


def store_a_list(path: Path) -> None:
    torch.save([1, 2, 3], path)
    write_manifest(path)


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_bit: "its content does not match its sha256",
    zero_a_page: "its content does not match its sha256",
    truncate: "its content does not match its sha256",
    empty: "its content does not match its sha256",
    delete_its_manifest: "it has no manifest, so it may be incomplete",
    truncate_its_manifest: "its manifest cannot be read",
    change_its_run_id: "it belongs to another run, 0123456789",
    store_code: "it cannot be read (UnpicklingError)",
    store_a_pickle_with_code: "it cannot be read (",
    store_a_list: "it is not a checkpoint",
}


def test_the_newest_checkpoint_is_loaded(checkpoints: Checkpoints) -> None:
    assert steps_of(checkpoints.load_latest()) == 20


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    checkpoints: Checkpoints,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(checkpoints.folder / "step-000000000020.pt")
    with caplog.at_level(logging.WARNING, LOG.name):
        assert steps_of(checkpoints.load_latest()) == 10
    (message,) = caplog.messages
    assert message.startswith(f"step-000000000020.pt is skipped: {DAMAGES[damage]}")
    assert not (tmp_path / "it-ran").exists()


def test_an_error_is_raised_if_all_checkpoints_are_damaged(checkpoints: Checkpoints) -> None:
    for path in checkpoints.folder.glob("*.pt"):
        flip_a_bit(path)
    with pytest.raises(DamagedError, match="none of the 2 checkpoints can be loaded"):
        checkpoints.load_latest()


def test_the_newest_two_are_kept(checkpoints: Checkpoints) -> None:
    checkpoints.save(30, state(30))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        f"step-{steps:012d}.{ending}" for steps in (20, 30) for ending in ("json", "pt")
    ]
