"""Load a complete run: `run = load_run("multirun_results/runs/...")`.

Loading executes no code from the run's files: settings are plain YAML, weights are safetensors.
"""

import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import evaluation_batch_size, normalized
from cifar_exp.errors import UserError
from cifar_exp.files import read_text
from cifar_exp.models.build import build_model
from cifar_exp.models.settings import CustomModel
from cifar_exp.paths import MODEL_FILE, WEIGHTS_FILE
from cifar_exp.runs.find import RESULTS, find_run
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.record import Record, read_record, remarks
from cifar_exp.runs.stored import StoredModel, check
from cifar_exp.runs.trust import sum_problem
from cifar_exp.training.device import Compute, choose_compute, current_stream, on_stream
from cifar_exp.training.step import predict_logits

_log = logging.getLogger("cifar_exp")
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class TrainedRun:
    """A complete run with its network.

    Attributes:
        path: folder of the run.
        config: all settings, such as `run.config.optimizer.lr`.
        metrics: metrics of each epoch, such as `run.metrics[-1]["test_accuracy"]`, or
            `["val_accuracy"]` with `data.val_fraction`.
        state: content of run.json: command, commit, versions, hardware, times.
        model: the network in evaluation mode on the device, for normalised images.
        classes: class names in the order of the network's outputs.
        image_size: side of the network's images in pixels.
        mean: mean of the channels of images in [0, 1]. Shape: `(1, 3, 1, 1)`.
        std: standard deviation of the channels. Shape: `(1, 3, 1, 1)`.
        compute: device and precision.
        trusted: names of custom code that may be called.
    """

    path: Path
    config: RunConfig
    metrics: list[dict[str, Any]]
    state: dict[str, Any]
    model: nn.Module
    classes: tuple[str, ...]
    image_size: int
    mean: Tensor
    std: Tensor
    compute: Compute
    trusted: frozenset[str]

    @property
    def epoch(self) -> int:
        """The epoch that the weights are from: the last, or the best with training.keep=best."""
        return int(self.state.get("epoch_kept", len(self.metrics)))

    def logits(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        """Compute logits as in the evaluation of the run, with its precision and `data.test_flip`.

        Args:
            images: array or tensor, RGB, uint8, on any device, with a side of `image_size` pixels.

        Returns:
            float32 logits on the CPU; `logits.softmax(1)` gives the probabilities.

        Raises:
            UserError: a logit is not finite.

        Shape:
            images `(N, H, W, 3)`, result `(N, classes)`.
        """
        if not isinstance(images, Tensor):
            # copied, because PyTorch warns of read-only arrays and refuses negative strides
            images = torch.from_numpy(np.array(images))
        stream = current_stream(self.compute.device)
        size = evaluation_batch_size(self.image_size)
        with torch.no_grad(), on_stream(stream, self.config.deterministic):
            batches = [self._logits(batch) for batch in torch.split(images, size)]
            logits = torch.cat(batches).cpu()
        if not logits.isfinite().all():
            raise UserError(f"{self.path}: the network produced non-finite logits")
        return logits

    def _logits(self, images: Tensor) -> Tensor:
        inputs = normalized(images.to(self.compute.device), (self.mean, self.std))
        return predict_logits(self.model, inputs, self.compute, self.config.data.test_flip)


def load_run(
    run: str | Path,
    device: Device = "auto",
    allow: Collection[str] = (),
    results: str | Path = RESULTS,
) -> TrainedRun:
    """Load a complete run.

    Args:
        run: folder of the run; or its id, its name or the beginning of one of them, to find in
            `results`.
        device: "auto" uses a GPU if available.
        allow: names of custom code that may be called.
        results: folder of all runs, as in `paths.results`.

    Returns:
        The run with its network in evaluation mode.

    Raises:
        UserError: the run is not found or not complete, or a file is missing or damaged.
    """
    folder = find_run(str(run), Path(results))
    record = read_record(folder)
    _check_complete(record)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        _check_sum(record, name)
    for remark in remarks([record]):
        _log.warning("%s", remark)
    return _loaded(record, _compute(record, device), frozenset(allow))


def load_files(folder: Path, config: RunConfig) -> TrainedRun:
    """Load a network from the files of a complete run that were copied without run.json.

    Args:
        folder: folder with model.json and model.safetensors.
        config: settings of the run.

    Raises:
        UserError: a file is missing or damaged, or the network is custom code.
    """
    record = Record(config, RunFolder(folder), "complete", {}, [])
    return _loaded(record, Compute(torch.device("cpu"), "fp32", threads=0), frozenset())


def _loaded(record: Record, compute: Compute, trusted: frozenset[str]) -> TrainedRun:
    path = record.folder.path
    description = _read_description(path / MODEL_FILE)
    build = partial(build_model, record.config.model, len(description["classes"]), 0, trusted)
    is_custom = isinstance(record.config.model, CustomModel)
    model = _load_model(path / WEIGHTS_FILE, build, is_custom)
    mean, std = (
        torch.tensor(description["normalization"][name], device=compute.device).view(1, 3, 1, 1)
        for name in ("mean", "std")
    )
    return TrainedRun(
        path=path,
        config=record.config,
        metrics=record.rows,
        state=record.state,
        model=model.to(compute.device).eval(),
        classes=tuple(description["classes"]),
        image_size=description["image_size"],
        mean=mean,
        std=std,
        compute=compute,
        trusted=trusted,
    )


def _check_complete(record: Record) -> None:
    path = record.folder.path
    match record.status:
        case "complete" if record.state.get("epoch_kept", 1) <= len(record.rows):
            return
        case "complete":
            message = "epoch_kept in run.json is an epoch that metrics.jsonl does not have."
        case "diverged":
            message = "the run diverged and has no network."
        case "damaged":
            message = (
                f"{record.problem}, so its results are not reliable. "
                "Train the run again with its command and rerun=true."
            )
        case "running":
            message = "the run is still training. Wait until it is complete."
        case status:
            message = f"the run is {status}. Run its command again to complete it."
    raise UserError(f"{path}: {message}")


def _check_sum(record: Record, name: str) -> None:
    path = record.folder.path
    if not (path / name).is_file():
        raise UserError(
            f"{path / name}: file not found. Copy it there, or train the run again with rerun=true."
        )
    if problem := sum_problem(path, name, record.state):
        raise UserError(
            f"{path}: {problem}, so the network is not reliable. Copy the file again, or train the "
            "run again with rerun=true."
        )


def _compute(record: Record, device: Device) -> Compute:
    before = record.state.get("compute")
    precision = before["precision"] if before else record.config.precision
    if precision not in ("fp32", "bf16", "auto"):
        raise UserError(
            f"{record.folder.path / 'run.json'}: compute.precision: expected fp32 or bf16, "
            f"got {precision!r}"
        )
    return choose_compute(
        record.config.model_copy(update={"device": device, "precision": precision})
    )


def _read_description(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: the file is damaged: expected JSON") from error
    check(StoredModel, content, file)
    return dict(content)


def _load_model(file: Path, build: Callable[[], nn.Module], is_custom: bool) -> nn.Module:
    """Build the network and load its weights, whose shapes are checked first."""
    try:
        with safe_open(file, "pt") as weights:
            names = weights.keys()  # `weights` is not iterable
            shapes = {name: weights.get_slice(name).get_shape() for name in names}
            with torch.device("cpu" if is_custom else "meta"):  # custom code may not support meta
                expected = build().state_dict()
            _check_shapes(shapes, expected, file)
            state = {name: weights.get_tensor(name) for name in shapes}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{file}: the file is damaged: {error}") from error
    for name, tensor in state.items():
        if tensor.dtype != expected[name].dtype:  # load_state_dict would convert it
            raise UserError(
                f"{file}: expected {name} as {expected[name].dtype}, got {tensor.dtype}. "
                "The file was changed after training."
            )
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise UserError(f"{file}: the file is damaged: weights are not finite")
    model = build()
    versioned = model.state_dict()  # without its version PyTorch would add num_batches_tracked
    versioned.update(state)
    model.load_state_dict(versioned)
    return model


def _check_shapes(shapes: dict[str, list[int]], expected: dict[str, Tensor], file: Path) -> None:
    """Check the shapes before memory is allocated."""
    correct = {name: list(tensor.shape) for name, tensor in expected.items()}
    for name in sorted({*shapes, *correct}):
        shape, found = correct.get(name, "none"), shapes.get(name, "none")
        if shape != found:
            raise UserError(
                f"{file}: expected {name} of shape {shape}, got {found}. The file does not fit "
                "the network in config.yaml and the classes in model.json."
            )
