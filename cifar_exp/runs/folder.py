"""The folder of a run: its files and its lock. Nothing here needs PyTorch."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cifar_exp.config.identity import identity, run_id, run_name, settings
from cifar_exp.config.load import from_yaml, to_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.stored_paths import anchored, relocate
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import (
    is_locked,
    open_to_append,
    read_text,
    remove_files,
    remove_temporaries,
    write_atomically,
    write_json,
)
from cifar_exp.paths import (
    CHECKPOINTS,
    CONFIG_FILE,
    CONFUSION_FILE,
    CURVES_FILE,
    LOG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    RUNS,
    STATE_FILE,
    WEIGHTS_FILE,
)
from cifar_exp.runs.results import Results
from cifar_exp.runs.trust import MAX_TEXT_BYTES, id_in_name, results_problem

# `is_locked` holds a lock for a moment; a run that starts waits for this long.
_LOCK_TIMEOUT_SECONDS = 1.0
ENDED = ("complete", "diverged")  # statuses of runs that are not trained again
MOVE_AWAY = "Move the folder away to train the run again."
PENDING = {"status": "pending"}  # read from a run.json that is missing or cannot be read
# All files that the program writes into the folder of a run. Other files are the user's.
_FILES = (
    CONFIG_FILE,
    STATE_FILE,
    METRICS_FILE,
    LOG_FILE,
    CURVES_FILE,
    PREDICTIONS_FILE,
    CONFUSION_FILE,
    WEIGHTS_FILE,
    MODEL_FILE,
)
_CHECKPOINTS = ("step-*.pt", "step-*.json")
_FOLDERS = (CHECKPOINTS, "predictions", "evaluation", "export")
_IN_FOLDERS = (
    *(f"checkpoints/{name}" for name in _CHECKPOINTS),
    *("predictions/*.json", "predictions/*.png"),
    *(f"evaluation/*/*.{kind}" for kind in ("txt", "json", "png")),
    *(f"export/*.{kind}" for kind in ("pt2", "onnx", "json")),
)


class BusyError(UserError):
    """Another process is training this run."""


class GoneError(UserError):
    """The folder of a run was deleted or replaced during training."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, `<results>/runs/<name>-<id>`."""

    path: Path

    @staticmethod
    def of(config: RunConfig) -> "RunFolder":
        """Return the folder of a run, which may not exist yet."""
        return RunFolder.of_all([config])[0]

    @staticmethod
    def of_all(configs: Sequence[RunConfig]) -> "list[RunFolder]":
        """Return the folder of each run; lists the folder of all runs at most once."""
        by_id: dict[Path, dict[str, RunFolder]] = {}
        folders = []
        for config in configs:
            runs, run = as_path(config.paths.results) / RUNS, run_id(config)
            folder = RunFolder(runs / f"{run_name(config)}-{run}")
            if not folder.config_file.exists():  # it may have been renamed
                if runs not in by_id:
                    by_id[runs] = RunFolder.by_id(runs)
                folder = by_id[runs].get(run, folder)
            folders.append(folder)
        return folders

    @staticmethod
    def by_id(runs: Path) -> "dict[str, RunFolder]":
        """Return the folders of all runs by run id, including renamed folders.

        Args:
            runs: folder of all runs. If it has several copies of a run, the one with the original
                name is returned.
        """
        copies: dict[str, list[RunFolder]] = {}
        for name in sorted(os.listdir(runs)) if runs.is_dir() else []:
            folder = RunFolder(runs / name)
            copies.setdefault(folder.run_id, []).append(folder)
        return {id: original(folders) for id, folders in copies.items() if id}

    @property
    def run_id(self) -> str:
        """The id at the end of the folder's name, else the id in run.json, else ""."""
        return id_in_name(self.path) or str(self.read_state().get("run_id", ""))

    @property
    def config_file(self) -> Path:
        """The file with all settings of the run."""
        return self.path / CONFIG_FILE

    @property
    def metrics_file(self) -> Path:
        """The file with one line of JSON per epoch, from which all results are computed."""
        return self.path / METRICS_FILE

    @property
    def log_file(self) -> Path:
        """The log of the run, with times and tracebacks."""
        return self.path / LOG_FILE

    def read_state(self) -> dict[str, Any]:
        """Return run.json; `{"status": "pending"}` if it is missing or cannot be read."""
        try:
            state = json.loads(read_text(self.path / STATE_FILE))
        except (OSError, ValueError, RecursionError):
            state = None
        return state if isinstance(state, dict) and "status" in state else dict(PENDING)

    @property
    def has_state(self) -> bool:
        """Whether run.json exists and can be read."""
        return self.read_state() != PENDING

    def write_state(self, state: dict[str, Any]) -> None:
        """Write run.json atomically."""
        write_json(self.path / STATE_FILE, state)

    @property
    def status(self) -> str:
        """pending, running, interrupted, complete, diverged, failed or damaged.

        A damaged run has ended, but its files were changed afterwards; see `problem`.
        """
        return self.status_and_problem(self.read_state(), self.read_metrics())[0]

    @property
    def problem(self) -> str:
        """Why a run is damaged; "" if it is not."""
        return self.status_and_problem(self.read_state(), self.read_metrics())[1]

    def status_and_problem(
        self, state: dict[str, Any], rows: Sequence[dict[str, Any]]
    ) -> tuple[str, str]:
        """Return `status` and `problem` for files that have been read.

        Args:
            state: result of `read_state`.
            rows: result of `read_metrics`.
        """
        status = str(state["status"])
        if status in ENDED:
            problem = results_problem(self.path, state, rows, self.read_config)
            return ("damaged", problem) if problem else (status, "")
        if status == "running" and not self.is_held:
            return "interrupted", ""
        return status, ""

    @property
    def is_held(self) -> bool:
        """Whether a process holds the lock of the run."""
        return is_locked(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl up to the first incomplete line."""
        rows = []
        try:
            lines = read_text(self.metrics_file, MAX_TEXT_BYTES).splitlines()
        except (OSError, ValueError):
            return []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                break
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replace metrics.jsonl atomically."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.metrics_file, lambda temporary: temporary.write_text(text, "utf-8"))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a row in a single write, so that a kill damages at most the last line.

        Raises:
            FileNotFoundError: `write_metrics` was not called before, or the file was deleted.
        """
        with open_to_append(self.metrics_file, create=False) as file:
            file.write(json.dumps(row) + "\n")

    def claim(self, config: RunConfig) -> None:
        """Write the settings of a new run, or compare them with the existing config.yaml.

        Raises:
            UserError: config.yaml has other settings or cannot be read.
        """
        if not self.config_file.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            text = to_yaml(anchored(config))
            write_atomically(self.config_file, lambda file: file.write_text(text, "utf-8"))
            return
        stored = self.read_config()
        if identity(stored) == identity(config):
            return
        old, new = settings(stored), settings(config)
        differences = [
            f"{key}={old.get(key)} instead of {new.get(key)}"
            for key in old | new
            if old.get(key) != new.get(key)
        ]
        shown = ", ".join(differences) or "other weights in model.init"
        raise UserError(
            f"{self.config_file}: has other settings than this run: {shown}\n{MOVE_AWAY}"
        )

    def read_config(self) -> RunConfig:
        """Return the settings of the run, with its paths as they are now; see `relocate`.

        Raises:
            UserError: config.yaml is missing or cannot be read.
        """
        try:
            return relocate(from_yaml(read_text(self.config_file)), self.path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.config_file}: expected the settings of a run, but the file cannot be read. "
                f"{MOVE_AWAY}"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[Callable[[], None]]:
        """Lock the folder for one process. The kernel releases the lock when the process ends.

        Yields:
            A function that raises GoneError once the folder is no longer the locked one.

        Raises:
            BusyError: another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file)
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_SECONDS)
        except Timeout as error:
            raise BusyError(
                f"{self.path}: another process is training this run. Wait for it, or stop it."
            ) from error
        try:
            held = os.stat(self._lock_file)

            def check() -> None:
                try:
                    same = os.path.samestat(os.stat(self._lock_file), held)
                except OSError:
                    same = False
                if not same:
                    raise GoneError(
                        f"{self.path}: the folder was deleted or replaced during training. "
                        "Run the same command again to restart the run."
                    )

            yield check
        finally:
            lock.release()

    def fail(self, ids: dict[str, Any], reason: str) -> None:
        """Write the status `failed` to run.json.

        Args:
            ids: ids of the run, which run.json may lack.
            reason: the error message.
        """
        self.write_state(self.read_state() | ids | {"status": "failed", "reason": reason})

    def tidy(self) -> None:
        """Delete temporary files and unused checkpoints of a killed process; needs the lock."""
        remove_temporaries(self.path, *_FILES, *_IN_FOLDERS)
        if unused := self._unused_checkpoints():
            remove_files(self.path / CHECKPOINTS, *(path.name for path in unused))

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints; other files in their folder are kept."""
        remove_temporaries(self.path, *_IN_FOLDERS)
        remove_files(self.path / CHECKPOINTS, *_CHECKPOINTS)

    def tidy_if_free(self) -> None:
        """Call `tidy`, unless another process holds the lock or the disk is read-only."""
        if self._unused_checkpoints() or any(self.path.glob(".*.tmp")):
            with suppress(BusyError, OSError), self.lock():
                self.tidy()

    def _unused_checkpoints(self) -> list[Path]:
        """Return the checkpoints that a finished run does not need.

        A complete run keeps its last one, from which a longer run can continue.
        """
        files = sorted((self.path / CHECKPOINTS).glob("step-*"))
        status = self.status if files else ""
        if status == "complete":
            return [path for path in files if path.stem != files[-1].stem]
        return files if status == "diverged" else []

    def set_aside(self) -> None:
        """Move the files of the run to `.replaced`, so that it can be trained again."""
        replaced = self.path / ".replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        replaced.mkdir()
        for path in [self.path / name for name in (*_FILES, *_FOLDERS)]:
            if path.exists() or path.is_symlink():
                path.rename(replaced / path.name)

    def outcome(self) -> str:
        """Return the status, accuracy and time of a finished run in one line."""
        state, results = self.read_state(), self.results
        epochs = len(results.rows)
        if results.accuracy is None:
            return f"{state['status']} in epoch {epochs}, {results.seconds:.0f} s"
        return (
            f"{state['status']}: {results.evaluated_on} accuracy {results.accuracy:.4f} after "
            f"{in_epochs(epochs)} (best {results.best_accuracy:.4f}), "
            f"{results.seconds:.0f} s{self._selection(state)}{_balance(state)}"
        )

    def _selection(self, state: dict[str, Any]) -> str:
        """Return the epochs that `training.keep` and `training.patience` selected, or ""."""
        stopped, kept = state.get("epoch_stopped"), state.get("epoch_kept")
        # with patience, run.json has the last epoch even if it is that of the settings
        is_early = stopped is not None and stopped != self.read_config().training.epochs
        text = f"; stopped after epoch {stopped}" if is_early else ""
        return text if kept is None else f"{text}; weights of epoch {kept}"

    @property
    def results(self) -> Results:
        """The results computed from metrics.jsonl."""
        # early versions had no validation split and wrote no `evaluated_on`
        return Results(self.read_metrics(), self.read_state().get("evaluated_on", "test"))


def original(copies: Sequence[RunFolder]) -> RunFolder:
    """Return the folder with the original name among copies of a run's folder, else the first."""

    def is_renamed(folder: RunFolder) -> bool:
        return folder.path.name != f"{folder.read_state().get('name')}-{folder.run_id}"

    return copies[0] if len(copies) == 1 else min(copies, key=is_renamed)


def _balance(state: dict[str, Any]) -> str:
    """Return the balanced accuracy and the baseline for imbalanced classes; "" for balanced."""
    if "balanced_accuracy" not in state:
        return ""
    return (
        f"; balanced accuracy {state['balanced_accuracy']:.4f}, share of the largest class "
        f"{state['largest_class_share']:.4f}"
    )


def in_epochs(number: int) -> str:
    """Return "1 epoch" or "2 epochs"."""
    return f"{number} epoch{'s' * (number > 1)}"
