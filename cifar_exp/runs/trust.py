"""Checks that the files of a run are those that the run wrote. Nothing here needs PyTorch."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import run_id
from cifar_exp.config.load import from_yaml
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.files import read_text, sha256
from cifar_exp.paths import CONFIG_FILE, METRICS_FILE, MODEL_FILE, STATE_FILE, WEIGHTS_FILE
from cifar_exp.runs.stored import StoredRun, check

# Limit for text files; a metrics.jsonl of this size has more than a million epochs.
MAX_TEXT_BYTES = 2**29
_SUMMED_FILES = (CONFIG_FILE, METRICS_FILE, MODEL_FILE, WEIGHTS_FILE)
_ID = re.compile(r"-([0-9a-f]{10})\Z")


def id_in_name(folder: Path) -> str | None:
    """Return the run id at the end of a folder's name; None if the name has none."""
    match = _ID.search(folder.name)
    return match[1] if match else None


def file_sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 sums of a run's config, metrics, model.json and weights."""
    return {name: sha256(folder / name) for name in _SUMMED_FILES if (folder / name).is_file()}


def has_sums(state: dict[str, Any]) -> bool:
    """Return whether run.json has SHA-256 sums. Runs of early versions have none."""
    return "sha256" in state


def sum_problem(folder: Path, name: str, state: dict[str, Any]) -> str:
    """Compare a file of a finished run with its SHA-256 sum in run.json.

    Args:
        folder: folder of the run.
        name: file name, for example `metrics.jsonl`.
        state: content of run.json.

    Returns:
        What is wrong; "" if the sums are equal, or run.json has none for this file.
    """
    expected = state.get("sha256", {}).get(name)
    if expected is None:
        return ""
    try:
        actual = sha256(folder / name, None if name == WEIGHTS_FILE else MAX_TEXT_BYTES)
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return "" if actual == expected else f"{name} does not match its sha256 in run.json"


def results_problem(
    folder: Path,
    state: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    read_config: Callable[[], RunConfig],
) -> str:
    """Check the results of a finished run.

    Args:
        folder: folder of the run.
        state: content of run.json.
        rows: lines of metrics.jsonl.
        read_config: reads config.yaml, which is slow; called only if run.json has no sums.

    Returns:
        Why the results cannot be trusted; "" if they can.
    """
    try:
        check(StoredRun, state, folder / STATE_FILE)
    except UserError:
        return "run.json has invalid values"
    if not rows:
        return "metrics.jsonl has no epochs"
    for name in (CONFIG_FILE, METRICS_FILE):
        if problem := sum_problem(folder, name, state):
            return problem
    if state.get("sha256") and "run_id" in state:  # run.json was written for this config.yaml
        return _id_problem(folder, str(state["run_id"]), {})
    try:
        config = read_config()
    except UserError:
        return "config.yaml cannot be read"
    epochs = state.get("epoch_stopped", config.training.epochs)
    if state["status"] == "complete" and len(rows) != epochs:
        return f"metrics.jsonl has {len(rows)} epochs, expected {epochs}"
    return config_problem(folder, config, state)


def config_problem(folder: Path, config: RunConfig, state: dict[str, Any]) -> str:
    """Compare the id of a run's settings with the ids in run.json and in the folder's name.

    Args:
        folder: folder of the run.
        config: settings in config.yaml.
        state: content of run.json.

    Returns:
        Why the settings are not those of the run; "" if they are.
    """
    problem = _id_problem(folder, run_id(config), state)
    if problem and config.data.place and _has_relative_root(folder):
        return ""  # the id then depends on the folder in which the command was called
    return problem


def _has_relative_root(folder: Path) -> bool:
    """Return whether config.yaml has a relative path to the images, as in early versions."""
    with suppress(OSError, ValueError):
        root = from_yaml(read_text(folder / CONFIG_FILE)).data.place
        return not (os.path.isabs(root) or "${" in root)
    return False


def _id_problem(folder: Path, actual: str, state: dict[str, Any]) -> str:
    for expected in (state.get("run_id"), id_in_name(folder)):
        if expected not in (None, actual):
            return f"config.yaml holds the settings of another run, expected those of {expected}"
    return ""
