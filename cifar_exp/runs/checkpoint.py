"""Checkpoints that survive a kill, and are not trusted without their sum.

`torch.load` takes a file with a flipped bit without a word, so each checkpoint has a manifest,
written after it, with its sha256. A checkpoint without a matching manifest does not exist.
"""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import torch

from cifar_exp.files import write_atomically, write_json

_KEPT = 2
# At most about a twentieth of a run's time goes into checkpoints.
_TRAINING_PER_SAVING = 20


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; made when the first is saved.
        run_id: of the run; a checkpoint of another run is not taken.
        log: of the run.
    """

    def __init__(self, folder: Path, run_id: str, log: logging.Logger) -> None:
        self.folder = folder
        self.run_id = run_id
        self._log = log
        self._saved_at = 0.0
        self._save_seconds = 0.0

    def save_if_due(self, epoch: int, state: dict[str, Any]) -> None:
        """Save, unless saving has just been done and takes long compared with an epoch.

        Args:
            epoch: that has just ended.
            state: tensors and plain values.
        """
        started = time.monotonic()
        if started - self._saved_at < _TRAINING_PER_SAVING * self._save_seconds:
            return
        self.save(epoch, state)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Save in any case. Args: as of `save_if_due`."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"epoch-{epoch:06d}.pt"
        write_atomically(path, lambda temporary: torch.save(state, temporary))
        manifest = {"epoch": epoch, "run_id": self.run_id, "sha256": _sha256(path)}
        write_json(path.with_suffix(".json"), manifest)
        for old in sorted(self.folder.glob("epoch-*.pt"))[:-_KEPT]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink()

    def load_latest(self) -> dict[str, Any] | None:
        """Return the newest state that is whole, or None; says which ones it passes over."""
        for path in sorted(self.folder.glob("epoch-*.pt"), reverse=True):
            problem = self._problem(path)
            if problem is None:
                # weights_only: a file from elsewhere must not be able to run code
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            self._log.warning("%s is passed over: %s", path.name, problem)
        return None

    def _problem(self, path: Path) -> str | None:
        try:
            manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "it has no readable manifest, so it may be incomplete"
        if manifest.get("run_id") != self.run_id:
            return f"it belongs to run {manifest.get('run_id')}"
        if manifest.get("sha256") != _sha256(path):
            return "its content does not match its sha256"
        return None

    def remove(self) -> None:
        """Delete all, once the run is complete and its model saved."""
        if not self.folder.exists():
            return
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
