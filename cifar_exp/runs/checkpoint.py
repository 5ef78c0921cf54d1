"""Checkpoints that survive a kill, and are not trusted without their sum.

`torch.load` takes a file with a flipped bit without a word, so each checkpoint has a manifest,
written after it, with its sha256. A checkpoint without a matching manifest does not exist.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cifar_exp.files import (
    read_text,
    refuse_links,
    remove_files,
    sha256,
    write_atomically,
    write_json,
)
from cifar_exp.out_of_memory import is_out_of_memory

KEPT = 2  # of a run at a time
# At most about a twentieth of a run's time goes into checkpoints.
_TRAINING_PER_SAVING = 20
# Within an epoch they are for long epochs only.
_SECONDS_WITHIN_AN_EPOCH = 60

# Of a training loop, and under "run" what run.json says of the run.
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; made when the first is saved.
        run_id: of the run; a checkpoint of another run is not taken.
        log: of the run.

    Attributes:
        saved_steps: of the last one that was saved or loaded; 0 before that.
    """

    def __init__(self, folder: Path, run_id: str, log: logging.Logger) -> None:
        self.folder = folder
        self.run_id = run_id
        self._log = log
        self.saved_steps = 0
        self._saved_at = 0.0
        self._save_seconds = 0.0
        self._since = time.monotonic()  # this process began, or saved

    def save_if_due(self, steps: int, state: Callable[[], State], within_epoch: bool) -> None:
        """Save, unless that has just been done and takes long compared with training.

        Args:
            steps: that the run has done.
            state: returns tensors and plain values.
            within_epoch: whether the epoch goes on; then a minute must have passed as well.
        """
        since = self._since if within_epoch else self._saved_at
        least = _SECONDS_WITHIN_AN_EPOCH if within_epoch else 0
        wanted = max(least, _TRAINING_PER_SAVING * self._save_seconds)
        if time.monotonic() - since >= wanted:
            self.save(steps, state())

    def save_if_new(self, steps: int, state: Callable[[], State]) -> None:
        """Save what has been trained since the last time, if anything. Args: see `save_if_due`."""
        if steps > self.saved_steps:
            self.save(steps, state())

    def save(self, steps: int, state: State) -> None:
        """Save in any case. Args: as of `save_if_due`, the state itself.

        Raises:
            OSError: it cannot be written; those before are as they were.
            UserError: the folder is a link.
        """
        started = time.monotonic()
        refuse_links(self.folder, self.folder.parent)
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{steps:012d}.pt"
        write_atomically(path, lambda temporary: _write(temporary, state))
        manifest = {"steps": steps, "run_id": self.run_id, "sha256": sha256(path)}
        write_json(_manifest(path), manifest)
        self._remove(self._files()[:-KEPT])
        self.saved_steps = steps
        self._saved_at = self._since = time.monotonic()
        self._save_seconds = self._saved_at - started

    def load_latest(self) -> State | None:
        """Return the newest state that is whole; says which ones it passes over.

        Returns:
            None if there are none; a first one that a kill has cut off counts as none.

        Raises:
            DamagedError: there are some, and none is whole.
        """
        files = self._files()
        for path in reversed(files):
            state = self._read(path)
            if isinstance(state, dict):
                self.saved_steps = int(path.stem.rpartition("-")[2])
                return state
            self._log.warning("%s is passed over: %s", path.name, state)
        if len(files) > 1 or any(_manifest(path).exists() for path in files):
            raise DamagedError(f"none of its {len(files)} checkpoints can be used")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _read(self, path: Path) -> State | str:
        """Return the content, or what is wrong with it."""
        if not _manifest(path).exists():
            return "it has no manifest, so it may be incomplete"
        try:
            manifest = json.loads(read_text(_manifest(path)))
            run_id, expected = manifest["run_id"], manifest["sha256"]
        except (OSError, ValueError, TypeError, KeyError):
            return "its manifest cannot be read"
        if run_id != self.run_id:
            return f"it belongs to run {run_id}"
        try:
            if expected != sha256(path):
                return "its content does not match its sha256"
            # weights_only: a file from elsewhere must not be able to run code
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a stranger's file makes of PyTorch
            if is_out_of_memory(error):
                raise
            return f"it cannot be read ({type(error).__name__})"
        return state if isinstance(state, dict) and "run" in state else "it holds no checkpoint"

    def keep_last(self) -> None:
        """Delete all but the last, once the run is complete and its model saved."""
        self._remove(self._files()[:-1])

    def _remove(self, files: list[Path]) -> None:
        remove_files(self.folder, *(f"{path.stem}.*" for path in files))


class DamagedError(Exception):
    """There are checkpoints, and none can be used."""


def _write(path: Path, state: State) -> None:
    # through a file of Python's: PyTorch's own does not say that a disk is full
    with path.open("wb") as file:
        torch.save(state, file)


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")
