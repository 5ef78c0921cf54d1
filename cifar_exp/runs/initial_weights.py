"""Starts runs from the weights of another run, `model.init=RUN`."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import read_text, sha256
from cifar_exp.models.settings import PINNED, CustomModel, NetworkSection
from cifar_exp.paths import MODEL_FILE, RUNS, WEIGHTS_FILE
from cifar_exp.runs.find import find_run
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.stored import StoredModel, check
from cifar_exp.runs.trust import sum_problem

if TYPE_CHECKING:  # importing PyTorch takes seconds
    from torch import Tensor, nn


def with_initial_weights(config: RunConfig) -> RunConfig:
    """Replace the run in `model.init` by its id and the SHA-256 of its weights.

    The SHA-256 is part of the id of the new run. The name and the place of the other run are not.

    Raises:
        UserError: the run is not found, not complete, damaged, or has another network.
    """
    model = config.model
    if isinstance(model, CustomModel) or not model.init or PINNED in model.init:
        return config
    pinned = _pinned(model, as_path(config.paths.results).absolute())
    return config.model_copy(update={"model": model.model_copy(update={"init": pinned})})


@cache  # the runs of a sweep share initial weights
def _pinned(model: NetworkSection, results: Path) -> str:
    assert model.init
    folder = _source(model, model.init, results)
    run = model.init if "${" in model.init else str(folder.path.absolute())
    if folder.run_id and folder.path.absolute().parent == results / RUNS:
        run = folder.run_id
    return f"{run}{PINNED}{sha256(folder.path / WEIGHTS_FILE)}"


def _source(model: NetworkSection, run: str, results: Path) -> RunFolder:
    """Find the run and check its network and its files."""
    try:
        folder = find_run(str(as_path(run)), results)
    except UserError as error:
        raise UserError(f"model.init={run}: {str(error).removeprefix(f'{run}: ')}") from error
    if folder.status != "complete":
        raise UserError(f"model.init={run}: the run is {folder.status}. Choose a complete run.")
    other = folder.read_config().model
    free = {"init", "dropout", "dropout_in_testing"}  # without effect on the tensors
    ours, theirs = (network.model_dump(exclude=free) for network in (model, other))
    if ours != theirs:
        raise UserError(
            f"model.init={run}: expected a run with the same network, {_in_words(ours)}, but it "
            f"has {_in_words(theirs)}. Choose another run, or use its settings of model."
        )
    for name in (MODEL_FILE, WEIGHTS_FILE):
        if not (folder.path / name).is_file():
            raise UserError(f"{folder.path / name}: file not found. Choose another model.init.")
        if problem := sum_problem(folder.path, name, folder.read_state()):
            raise UserError(f"model.init={run}: {problem}. Choose another run.")
    return folder


def _in_words(network: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in network.items() if key != "_target_")


def initial_weights(
    config: RunConfig, classes: Sequence[str], network: "nn.Module"
) -> "dict[str, Tensor]":
    """Read the weights that a run starts from.

    Args:
        config: settings of the run, from `with_initial_weights`.
        classes: class names of the run.
        network: network of the run.

    Returns:
        Tensors by name, without those of the last layer if the classes differ; empty without
        `model.init`.

    Raises:
        UserError: the weights are missing, or have changed since the command was started.
    """
    from safetensors.torch import load
    from torch import nn

    model = config.model
    if isinstance(model, CustomModel) or not model.init:
        return {}
    run, _, expected = model.init.partition(PINNED)
    folder = _source(model, run, as_path(config.paths.results))
    content = (folder.path / WEIGHTS_FILE).read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise UserError(
            f"model.init={run}: the weights have changed. Start a new run with model.init={run}."
        )
    description = json.loads(read_text(folder.path / MODEL_FILE))
    check(StoredModel, description, folder.path / MODEL_FILE)
    weights = load(content)
    if list(classes) != description["classes"]:
        linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        weights = {
            name: tensor
            for name, tensor in weights.items()
            if not name.startswith(f"{linear[-1]}.")
        }
    return weights
