"""The folder of a run: what it holds, and how it is read back. Nothing here needs PyTorch."""

import difflib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cifar_exp.config.identity import identity, run_id, run_name
from cifar_exp.config.load import from_yaml, to_yaml
from cifar_exp.config.paths import as_path
from cifar_exp.config.places import anchored, found_again
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.files import remove_temporaries, write_atomically, write_json

# A look at a lock holds it for a moment, which is not to be taken for a run.
_LOCK_TIMEOUT_SECONDS = 1.0
ENDED = ("complete", "diverged")  # such a run is not trained again
_PENDING = {"status": "pending"}
_ID = re.compile(r"-([0-9a-f]{10})\Z")


class BusyError(UserError):
    """Another process is training this run."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files: `<results>/runs/<name>-<id>`."""

    path: Path

    @staticmethod
    def of(config: RunConfig) -> "RunFolder":
        """Return the folder of a run, found by its id, or named anew."""
        runs, wanted = as_path(config.paths.results) / "runs", run_id(config)
        return RunFolder.with_id(runs, wanted) or RunFolder(runs / f"{run_name(config)}-{wanted}")

    @staticmethod
    def with_id(runs: Path, run_id: str) -> "RunFolder | None":
        """Return the folder of a run, whatever it has been renamed to; None if it is not there.

        Args:
            runs: folder of all runs.
            run_id: of the run. Of copies of its folder the one that has its name is the run.
        """
        names = sorted(os.listdir(runs)) if runs.is_dir() else []
        ending = [RunFolder(runs / name) for name in names if name.endswith(f"-{run_id}")]
        others = (RunFolder(runs / name) for name in names if not _ID.search(name))
        found = ending or [folder for folder in others if folder.run_id == run_id]
        return original(found) if found else None

    @property
    def run_id(self) -> str:
        """The id at the end of its name, or else in run.json; "" if there is neither."""
        named = _ID.search(self.path.name)
        return named[1] if named else str(self.read_state().get("run_id", ""))

    @property
    def config_file(self) -> Path:
        """The settings of the run, complete."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """One line of JSON an epoch: the truth about the run."""
        return self.path / "metrics.jsonl"

    @property
    def log_file(self) -> Path:
        """What happened, with times and tracebacks."""
        return self.path / "train.log"

    def read_state(self) -> dict[str, Any]:
        """Return run.json; of a folder without one that can be read, that the run is pending."""
        try:
            state = json.loads((self.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            state = None
        return state if isinstance(state, dict) and "status" in state else dict(_PENDING)

    @property
    def has_state(self) -> bool:
        """Whether there is a run.json that can be read."""
        return self.read_state() != _PENDING

    def write_state(self, state: dict[str, Any]) -> None:
        """Write run.json atomically."""
        write_json(self.path / "run.json", state)

    @property
    def status(self) -> str:
        """pending, running, interrupted, complete, diverged, failed or damaged.

        A damaged run had ended, but its metrics are not all there any more.
        """
        state = self.read_state()
        status = str(state["status"])
        if status in ENDED and len(self.read_metrics()) != state.get("epochs"):
            return "damaged"
        return "interrupted" if status == "running" and not self._is_held() else status

    def _is_held(self) -> bool:
        try:
            with FileLock(self._lock_file, timeout=0):
                return False
        except Timeout:
            return True

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a torn last line is left out."""
        rows = []
        try:
            lines = self.metrics_file.read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                break
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace metrics.jsonl by these rows."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.metrics_file, lambda temporary: temporary.write_text(text, "utf-8"))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row in one write, so that a kill tears at most the last line."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def claim(self, config: RunConfig) -> None:
        """Make the folder this run's own: write its settings, or compare with those it has.

        Raises:
            UserError: the folder holds other settings, or settings that cannot be read.
        """
        if not self.config_file.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            text = to_yaml(anchored(config))
            write_atomically(self.config_file, lambda file: file.write_text(text, "utf-8"))
            return
        stored = identity(self.read_config())
        old, new = (json.dumps(c, indent=0).splitlines() for c in (stored, identity(config)))
        differing = [line for line in difflib.unified_diff(old, new, n=0) if line[1:2] == '"']
        if differing:
            raise UserError(
                f"{self.config_file}: holds other settings than this run's: {' '.join(differing)}\n"
                "move the folder away to train anew"
            )

    def read_config(self) -> RunConfig:
        """Return the settings of the run, with its paths as they are now; see `found_again`.

        Raises:
            UserError: they are missing or cannot be read.
        """
        try:
            return found_again(from_yaml(self.config_file.read_text("utf-8")), self.path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.config_file}: expected the settings of a run, but they cannot be read; "
                "move the folder away and train anew"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one writer; the kernel frees it when the process ends, however.

        Raises:
            BusyError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS)
        except Timeout as error:
            raise BusyError(
                f"{self.path}: another process is training this run; wait for it, or stop it"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def fail(self, ids: dict[str, Any], reason: str) -> None:
        """Keep why the run failed. Args: ids: of the run, where run.json may not have them."""
        self.write_state(self.read_state() | ids | {"status": "failed", "reason": reason})

    def tidy(self) -> None:
        """Delete what a kill left behind; for the holder of the lock."""
        remove_temporaries(self.path)
        for path in self._spare_checkpoints():
            path.unlink(missing_ok=True)

    def tidy_if_free(self) -> None:
        """Delete what a kill left behind, unless another process is at work here."""
        if self._spare_checkpoints() or any(self.path.glob(".*.tmp")):
            with suppress(BusyError), self.lock():
                self.tidy()

    def _spare_checkpoints(self) -> list[Path]:
        """Return the files of checkpoints that an ended run has no use for; see `tidy`.

        The last one of a complete run is what a longer run continues.
        """
        files = sorted((self.path / "checkpoints").glob("step-*"))
        status = self.status if files else ""
        if status == "complete":
            return [path for path in files if path.stem != files[-1].stem]
        return files if status == "diverged" else []

    def set_aside(self) -> None:
        """Keep what the folder holds as .replaced inside it, for a run that is trained again."""
        replaced = self.path / ".replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        contents = [path for path in self.path.iterdir() if path != self._lock_file]
        replaced.mkdir()
        for path in contents:
            path.rename(replaced / path.name)

    def outcome(self) -> str:
        """Return the status and numbers of a run that has ended, in a line."""
        state = self.read_state()
        if state["test_accuracy"] is None:
            return f"{state['status']} in epoch {state['epochs']}, {state['seconds']:.0f} s"
        on = state.get("evaluated_on", "test")
        return (
            f"{state['status']}: {on} accuracy {state['test_accuracy']:.4f} after "
            f"{in_epochs(state['epochs'])} (best {state['best_test_accuracy']:.4f}), "
            f"{state['seconds']:.0f} s{_balance(state)}"
        )


def original(copies: Sequence[RunFolder]) -> RunFolder:
    """Return that one of several folders of a run that has the run's name; else the first."""

    def is_renamed(folder: RunFolder) -> bool:
        return folder.path.name != f"{folder.read_state().get('name')}-{folder.run_id}"

    return copies[0] if len(copies) == 1 else min(copies, key=is_renamed)


def _balance(state: dict[str, Any]) -> str:
    """Return what to compare the accuracy with where classes are unequal."""
    if "balanced_accuracy" not in state:
        return ""
    return (
        f"; balanced accuracy {state['balanced_accuracy']:.4f}, share of the largest class "
        f"{state['largest_class_share']:.4f}"
    )


def in_epochs(number: int) -> str:
    """Return "1 epoch" or "2 epochs"."""
    return f"{number} epoch{'s' * (number > 1)}"
