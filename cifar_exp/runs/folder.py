"""The folder of a run: what it holds, and how it is read back. Nothing here needs PyTorch."""

import difflib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cifar_exp.config.identity import identity, run_id, run_name
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
    sha256,
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

# A look at a lock holds it for a moment, which is not to be taken for a run.
_LOCK_TIMEOUT_SECONDS = 1.0
ENDED = ("complete", "diverged")  # such a run is not trained again
_PENDING = {"status": "pending"}
_ID = re.compile(r"-([0-9a-f]{10})\Z")
_MOST_METRICS_BYTES = 2**29  # more than a million epochs
# What the program writes into the folder of a run; anything else there is the user's.
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
# The files of which a run that has ended keeps the sums.
_SUMMED = (CONFIG_FILE, METRICS_FILE, MODEL_FILE, WEIGHTS_FILE)


class BusyError(UserError):
    """Another process is training this run."""


class GoneError(UserError):
    """The folder of a run was deleted or replaced while the run was trained."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files: `<results>/runs/<name>-<id>`."""

    path: Path

    @staticmethod
    def of(config: RunConfig) -> "RunFolder":
        """Return the folder of a run: the one with its id, or a new one."""
        return RunFolder.of_all([config])[0]

    @staticmethod
    def of_all(configs: Sequence[RunConfig]) -> "list[RunFolder]":
        """Return the folder of each run; lists the folder of all runs at most once."""
        there: dict[Path, dict[str, RunFolder]] = {}
        folders = []
        for config in configs:
            runs, wanted = as_path(config.paths.results) / RUNS, run_id(config)
            folder = RunFolder(runs / f"{run_name(config)}-{wanted}")
            if not folder.config_file.exists():  # it may have been renamed
                if runs not in there:
                    there[runs] = RunFolder.by_id(runs)
                folder = there[runs].get(wanted, folder)
            folders.append(folder)
        return folders

    @staticmethod
    def by_id(runs: Path) -> "dict[str, RunFolder]":
        """Return the folders of all runs by their ids, whatever they have been renamed to.

        Args:
            runs: folder of all runs. Of copies of a run's folder the one that has its name is
                returned.
        """
        copies: dict[str, list[RunFolder]] = {}
        for name in sorted(os.listdir(runs)) if runs.is_dir() else []:
            folder = RunFolder(runs / name)
            copies.setdefault(folder.run_id, []).append(folder)
        return {id: original(found) for id, found in copies.items() if id}

    @property
    def run_id(self) -> str:
        """The id at the end of its name, or else in run.json; "" if there is neither."""
        named = _ID.search(self.path.name)
        return named[1] if named else str(self.read_state().get("run_id", ""))

    @property
    def config_file(self) -> Path:
        """The settings of the run, complete."""
        return self.path / CONFIG_FILE

    @property
    def metrics_file(self) -> Path:
        """One line of JSON an epoch: the truth about the run."""
        return self.path / METRICS_FILE

    @property
    def log_file(self) -> Path:
        """What happened, with times and tracebacks."""
        return self.path / LOG_FILE

    def read_state(self) -> dict[str, Any]:
        """Return run.json; of a folder without one that can be read, that the run is pending."""
        try:
            state = json.loads(read_text(self.path / STATE_FILE))
        except (OSError, ValueError, RecursionError):
            state = None
        return state if isinstance(state, dict) and "status" in state else dict(_PENDING)

    @property
    def has_state(self) -> bool:
        """Whether there is a run.json that can be read."""
        return self.read_state() != _PENDING

    def write_state(self, state: dict[str, Any]) -> None:
        """Write run.json atomically."""
        write_json(self.path / STATE_FILE, state)

    @property
    def status(self) -> str:
        """pending, running, interrupted, complete, diverged, failed or damaged.

        A damaged run has ended, but its files are not those it has left; see `problem`.
        """
        return self.judged(self.read_state(), self.read_metrics())[0]

    @property
    def problem(self) -> str:
        """Why a run that has ended is damaged; "" if it is not."""
        return self.judged(self.read_state(), self.read_metrics())[1]

    def judged(self, state: dict[str, Any], rows: Sequence[dict[str, Any]]) -> tuple[str, str]:
        """Return the status of the run, and if it is damaged the reason, else "".

        Args:
            state: of `read_state`.
            rows: of `read_metrics`.
        """
        status = str(state["status"])
        if status in ENDED:
            problem = self._problem(state, rows)
            return ("damaged", problem) if problem else (status, "")
        if status == "running" and not self.is_held:
            return "interrupted", ""
        return status, ""

    def _problem(self, state: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
        """Return why the results of a run that has ended cannot be trusted; "" if they can."""
        if not rows:
            return "metrics.jsonl has no epochs"
        for name in (CONFIG_FILE, METRICS_FILE):
            if problem := self.sum_problem(name, state):
                return problem
        if self._sums_in(state) and "run_id" in state:  # of a config.yaml that has this id
            return self._id_problem(str(state["run_id"]), {})
        try:
            config = self.read_config()
        except UserError:
            return "config.yaml cannot be read"
        if state["status"] == "complete" and len(rows) != config.training.epochs:
            return f"metrics.jsonl has {len(rows)} of {in_epochs(config.training.epochs)}"
        return self._config_problem(config, state)

    def sum_problem(self, name: str, state: dict[str, Any]) -> str:
        """Return what is wrong with a file of a run that has ended; "" if nothing is known.

        Args:
            name: of the file.
            state: of `read_state`; runs from before there were sums have none in it.
        """
        expected = self._sums_in(state).get(name)
        if expected is None:
            return ""
        try:
            # gigabytes in place of a text take minutes to read
            most = None if name == WEIGHTS_FILE else _MOST_METRICS_BYTES
            found = sha256(self.path / name, most)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        return "" if found == expected else f"{name} does not match its sha256 in run.json"

    def check_config(self, config: RunConfig, state: dict[str, Any]) -> None:
        """Check that the settings are those of the run.

        Args:
            config: of `read_config`.
            state: of `read_state`.

        Raises:
            UserError: they are those of another run, or were changed.
        """
        problem = self.sum_problem(CONFIG_FILE, state) if state["status"] in ENDED else ""
        if problem := problem or self._config_problem(config, state):
            raise UserError(f"{self.path}: {problem}, so its settings are not known")

    def _config_problem(self, config: RunConfig, state: dict[str, Any]) -> str:
        if config.data.place and self._has_relative_root():
            return ""  # its id has a place that depends on where the command was called
        return self._id_problem(run_id(config), state)

    def _has_relative_root(self) -> bool:
        """Return whether config.yaml is from before places of images were absolute."""
        with suppress(OSError, ValueError):
            place = from_yaml(read_text(self.config_file)).data.place
            return not (os.path.isabs(place) or "${" in place)
        return False

    def _id_problem(self, found: str, state: dict[str, Any]) -> str:
        """Compare the id of config.yaml with those in run.json and in the folder's name."""
        named = re.fullmatch(r".*-([0-9a-f]{10})", self.path.name, re.DOTALL)
        for expected in (state.get("run_id"), named[1] if named else None):
            if expected not in (None, found):
                return f"config.yaml holds the settings of another run than {expected}"
        return ""

    @staticmethod
    def _sums_in(state: dict[str, Any]) -> dict[str, Any]:
        sums = state.get("sha256")
        return sums if isinstance(sums, dict) else {}

    @staticmethod
    def has_sums(state: dict[str, Any]) -> bool:
        """Return whether the sums of the files are kept; runs from before have none."""
        return "sha256" in state

    def sums(self) -> dict[str, str]:
        """Return the sha256 sum of each file that makes up the results."""
        return {name: sha256(self.path / name) for name in _SUMMED if (self.path / name).is_file()}

    @property
    def is_held(self) -> bool:
        """Whether a process trains the run, or has just begun and has yet to write that."""
        return is_locked(self._lock_file)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of metrics.jsonl; a torn last line is left out."""
        rows = []
        try:
            lines = read_text(self.metrics_file, _MOST_METRICS_BYTES).splitlines()
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
        """Add a row in one write, so that a kill tears at most the last line.

        Raises:
            FileNotFoundError: `write_metrics` has not created the file, or it was deleted.
        """
        with open_to_append(self.metrics_file, create=False) as file:
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
        """Return the settings of the run, with its paths as they are now; see `relocate`.

        Raises:
            UserError: they are missing or cannot be read.
        """
        try:
            return relocate(from_yaml(read_text(self.config_file)), self.path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.config_file}: expected the settings of a run, but they cannot be read; "
                "move the folder away and train anew"
            ) from error

    @contextmanager
    def lock(self) -> Iterator[Callable[[], None]]:
        """Hold the folder for one writer; the kernel frees it when the process ends, however.

        Yields:
            A function that raises GoneError once the folder is not the one that is held.

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
            held = os.stat(self._lock_file)

            def check() -> None:
                try:
                    same = os.path.samestat(os.stat(self._lock_file), held)
                except OSError:
                    same = False
                if not same:
                    raise GoneError(
                        f"{self.path}: the folder of the run was deleted or replaced while it was "
                        "trained, so it was stopped; the same command starts it again"
                    )

            yield check
        finally:
            lock.release()

    def fail(self, ids: dict[str, Any], reason: str) -> None:
        """Keep why the run failed. Args: ids: of the run, where run.json may not have them."""
        self.write_state(self.read_state() | ids | {"status": "failed", "reason": reason})

    def tidy(self) -> None:
        """Delete what a kill left behind; for the holder of the lock."""
        remove_temporaries(self.path, *_FILES, *_IN_FOLDERS)
        if spare := self._spare_checkpoints():
            remove_files(self.path / CHECKPOINTS, *(path.name for path in spare))

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints; what somebody else has put into their folder stays."""
        remove_temporaries(self.path, *_IN_FOLDERS)
        remove_files(self.path / CHECKPOINTS, *_CHECKPOINTS)

    def tidy_if_free(self) -> None:
        """Delete what a kill left behind, unless another process is at work here."""
        if self._spare_checkpoints() or any(self.path.glob(".*.tmp")):
            with suppress(BusyError, OSError), self.lock():  # a disk may be read-only
                self.tidy()

    def _spare_checkpoints(self) -> list[Path]:
        """Return the files of checkpoints that an ended run has no use for; see `tidy`.

        The last one of a complete run is what a longer run continues.
        """
        files = sorted((self.path / CHECKPOINTS).glob("step-*"))
        status = self.status if files else ""
        if status == "complete":
            return [path for path in files if path.stem != files[-1].stem]
        return files if status == "diverged" else []

    def set_aside(self) -> None:
        """Keep what the folder holds as .replaced inside it, for a run that is trained again."""
        replaced = self.path / ".replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        replaced.mkdir()
        for path in [self.path / name for name in (*_FILES, *_FOLDERS)]:
            if path.exists() or path.is_symlink():
                path.rename(replaced / path.name)

    def outcome(self) -> str:
        """Return the status and numbers of a run that has ended, in a line."""
        state, results = self.read_state(), self.results
        epochs = len(results.rows)
        if results.accuracy is None:
            return f"{state['status']} in epoch {epochs}, {results.seconds:.0f} s"
        return (
            f"{state['status']}: {results.evaluated_on} accuracy {results.accuracy:.4f} after "
            f"{in_epochs(epochs)} (best {results.best_accuracy:.4f}), "
            f"{results.seconds:.0f} s{_balance(state)}"
        )

    @property
    def results(self) -> Results:
        """What its metrics come to."""
        # runs from before images could be held out do not say it
        return Results(self.read_metrics(), self.read_state().get("evaluated_on", "test"))


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
