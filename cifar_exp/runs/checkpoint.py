"""Checkpoints that survive a kill and are loaded only if their checksum matches.

`torch.load` does not notice a flipped bit. Each checkpoint therefore has a manifest with its
SHA-256 sum, which is written after it. A checkpoint without a matching manifest is skipped.
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

KEPT = 2  # newest checkpoints of a run
# Saving takes at most about 1/20 of the time.
_TRAINING_PER_SAVING = 20
# Minimum time between checkpoints within an epoch.
_SECONDS_WITHIN_AN_EPOCH = 60

# `Training.state_dict()`, and the content of run.json under the key "run".
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: folder of the checkpoints; created when the first is saved.
        run_id: id of the run; checkpoints of other runs are not loaded.
        log: logger of the run.

    Attributes:
        saved_steps: training steps of the checkpoint that was saved or loaded last; 0 before.
    """

    def __init__(self, folder: Path, run_id: str, log: logging.Logger) -> None:
        self.folder = folder
        self.run_id = run_id
        self._log = log
        self.saved_steps = 0
        self._saved_at = 0.0  # so that the first epoch is saved
        self._save_seconds = 0.0
        self._since = time.monotonic()  # start of this process, or last save

    def save_if_due(self, steps: int, state: Callable[[], State], within_epoch: bool) -> None:
        """Save a checkpoint, unless the last one is too recent for the time that saving takes.

        Args:
            steps: training steps of the run so far.
            state: returns the state to save.
            within_epoch: whether the epoch has not ended; the last save or the start of the
                process must then be at least a minute ago.
        """
        since = self._since if within_epoch else self._saved_at
        minimum = _SECONDS_WITHIN_AN_EPOCH if within_epoch else 0
        interval = max(minimum, _TRAINING_PER_SAVING * self._save_seconds)
        if time.monotonic() - since >= interval:
            self.save(steps, state())

    def save_if_new(self, steps: int, state: Callable[[], State]) -> None:
        """Save a checkpoint if there were training steps after the last one.

        Args:
            steps: training steps of the run so far.
            state: returns the state to save.
        """
        if steps > self.saved_steps:
            self.save(steps, state())

    def save(self, steps: int, state: State) -> None:
        """Save a checkpoint, and delete all but the newest `KEPT`.

        Args:
            steps: training steps of the run so far.
            state: tensors and plain values.

        Raises:
            OSError: it cannot be written; earlier checkpoints are kept.
            UserError: the folder is a symbolic link.
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
        """Load the newest undamaged checkpoint, and warn about each damaged one.

        Returns:
            Its state; None without checkpoints, or if the first one is incomplete.

        Raises:
            DamagedError: all checkpoints are damaged.
        """
        files = self._files()
        for path in reversed(files):
            state = self._read(path)
            if isinstance(state, dict):
                self.saved_steps = int(path.stem.rpartition("-")[2])
                return state
            self._log.warning("%s is skipped: %s", path.name, state)
        if len(files) > 1 or any(_manifest(path).exists() for path in files):
            raise DamagedError(f"none of the {len(files)} checkpoints can be loaded")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _read(self, path: Path) -> State | str:
        """Return the state in a file, or what is wrong with the file."""
        if not _manifest(path).exists():
            return "it has no manifest, so it may be incomplete"
        try:
            manifest = json.loads(read_text(_manifest(path)))
            run_id, expected = manifest["run_id"], manifest["sha256"]
        except (OSError, ValueError, TypeError, KeyError):
            return "its manifest cannot be read"
        if run_id != self.run_id:
            return f"it belongs to another run, {run_id}"
        try:
            if expected != sha256(path):
                return "its content does not match its sha256"
            # weights_only: the file must not run code
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a hostile file can raise anything
            if is_out_of_memory(error):
                raise
            return f"it cannot be read ({type(error).__name__})"
        return state if isinstance(state, dict) and "run" in state else "it is not a checkpoint"

    def keep_last(self) -> None:
        """Delete all checkpoints but the newest."""
        self._remove(self._files()[:-1])

    def _remove(self, files: list[Path]) -> None:
        remove_files(self.folder, *(f"{path.stem}.*" for path in files))


class DamagedError(Exception):
    """A run has checkpoints, and none can be loaded."""


def _write(path: Path, state: State) -> None:
    # with a Python file: PyTorch's own file does not report a full disk
    with path.open("wb") as file:
        torch.save(state, file)


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")
