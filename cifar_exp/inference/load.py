"""A finished run as a Python object: `run = load_run("multirun_results/runs/...")`.

Whatever the files of a run hold, loading them runs no code: settings are YAML of plain values,
weights are safetensors, and the network is built from the settings.
"""

import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cifar_exp.config.schema import RunConfig
from cifar_exp.data.batches import TEST_BATCH_SIZE, normalized
from cifar_exp.errors import UserError
from cifar_exp.files import read_text
from cifar_exp.models.build import build_model
from cifar_exp.models.settings import CustomModel
from cifar_exp.paths import MODEL_FILE, WEIGHTS_FILE
from cifar_exp.runs.find import RESULTS, find_run
from cifar_exp.runs.record import Record, read_record, remarks
from cifar_exp.runs.stored import StoredModel, check
from cifar_exp.runs.trust import sum_problem
from cifar_exp.training.device import Compute, choose_compute, on_stream
from cifar_exp.training.step import predict_logits

_log = logging.getLogger("cifar_exp")
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class TrainedRun:
    """A complete run with its network.

    Attributes:
        path: its folder.
        config: all its settings: `run.config.optimizer.lr`.
        metrics: the lines of metrics.jsonl, one an epoch: `run.metrics[-1]["test_accuracy"]`,
            or `["val_accuracy"]` where images are held out.
        state: what run.json holds: command, commit, versions, hardware, times.
        model: the network, in evaluation mode on the device; it takes normalised images.
        classes: their names, in the order of the network's outputs.
        image_size: pixels a side of the images that it was trained on.
        mean: of the channels, which is taken off values in [0, 1]. Shape: `(1, 3, 1, 1)`.
        std: of the channels, by which they are divided then. Shape: `(1, 3, 1, 1)`.
        compute: the device, and the precision that the run was trained and tested in.
        trusted: names of code of the user's own that may be called.
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

    def logits(self, images: Tensor) -> Tensor:
        """Return what the network makes of images, just as the run tested it.

        That is in the run's precision, and with `data.test_flip` on an image and its mirror image.

        Args:
            images: RGB, uint8, on any device; of `image_size` pixels a side.

        Returns:
            float32, on the CPU; `logits.softmax(1)` are the probabilities of `classes`.

        Raises:
            UserError: an answer is no finite number.

        Shape:
            images `(N, H, W, 3)`, result `(N, classes)`.
        """
        device = self.compute.device
        stream = torch.cuda.current_stream(device) if self.compute.on_gpu else None
        with torch.no_grad(), on_stream(stream, self.config.deterministic):
            batches = [self._logits(batch) for batch in torch.split(images, TEST_BATCH_SIZE)]
            logits = torch.cat(batches).cpu()
        if not logits.isfinite().all():
            raise UserError(f"{self.path}: the network answers with what are no finite numbers")
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
    """Load a run that is complete.

    Args:
        run: its folder; or its id, its name, or how one of these begins, looked for in `results`.
        device: "auto" takes a GPU where there is one.
        allow: names of code that you trust, if the settings of the run name code of your own.
        results: the folder that `paths.results` named.

    Returns:
        The run, its network in evaluation mode.

    Raises:
        UserError: there is no such run, it is not complete, or a file of it is missing or damaged.
    """
    folder = find_run(str(run), Path(results))
    record = read_record(folder)
    _check_complete(record)
    for name in (MODEL_FILE, WEIGHTS_FILE):
        _check_sum(record, name)
    for remark in remarks([record]):
        _log.warning("%s", remark)
    described = _read_description(folder.path / MODEL_FILE)
    trusted = frozenset(allow)
    build = partial(build_model, record.config.model, len(described["classes"]), 0, trusted)
    own = isinstance(record.config.model, CustomModel)
    model = _restored(folder.path / WEIGHTS_FILE, build, own)
    compute = _compute(record, device)
    mean, std = (
        torch.tensor(described["normalization"][name], device=compute.device).view(1, 3, 1, 1)
        for name in ("mean", "std")
    )
    return TrainedRun(
        path=folder.path,
        config=record.config,
        metrics=record.rows,
        state=record.state,
        model=model.to(compute.device).eval(),
        classes=tuple(described["classes"]),
        image_size=described["image_size"],
        mean=mean,
        std=std,
        compute=compute,
        trusted=trusted,
    )


def _check_complete(record: Record) -> None:
    path = record.folder.path
    match record.status:
        case "complete":
            return
        case "diverged":
            message = "the run diverged, and left no network"
        case "damaged":
            message = (
                f"{record.problem}, so its results cannot be trusted; "
                "train it again with the command that began it and rerun=true"
            )
        case "running":
            message = "the run is being trained; its network is there when it is complete"
        case status:
            message = f"the run is {status}; train it to its end with the command that began it"
    raise UserError(f"{path}: {message}")


def _check_sum(record: Record, name: str) -> None:
    path = record.folder.path
    if not (path / name).is_file():
        raise _missing(path / name)
    if problem := sum_problem(path, name, record.state):
        raise UserError(
            f"{path}: {problem}, so the network cannot be trusted; copy the file here again, or "
            "train the run again with rerun=true"
        )


def _compute(record: Record, device: Device) -> Compute:
    before = record.state.get("compute")
    precision = before["precision"] if before else record.config.precision
    if precision not in ("fp32", "bf16", "auto"):
        raise UserError(
            f"{record.folder.path / 'run.json'}: compute.precision: expected fp32 or bf16"
        )
    return choose_compute(
        record.config.model_copy(update={"device": device, "precision": precision})
    )


def _read_description(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: expected JSON that can be read; the file is damaged") from error
    check(StoredModel, content, file)
    return dict(content)


def _restored(file: Path, build: Callable[[], nn.Module], own: bool) -> nn.Module:
    """Build the network, once its weights are known to fit, and load them."""
    try:
        with safe_open(file, "pt") as weights:
            names = weights.keys()  # it cannot be iterated itself
            shapes = {name: weights.get_slice(name).get_shape() for name in names}
            with torch.device("cpu" if own else "meta"):  # of which code of one's own knows nothing
                expected = build().state_dict()
            _check_shapes(shapes, expected, file)
            state = {name: weights.get_tensor(name) for name in shapes}
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{file}: the file is damaged: {error}") from error
    for name, tensor in state.items():
        if tensor.dtype != expected[name].dtype:  # it would be converted without a word
            raise UserError(
                f"{file}: expected {name} in {expected[name].dtype}, found {tensor.dtype}; "
                "the file was changed since the run was trained"
            )
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise UserError(f"{file}: the file is damaged: not all weights are finite numbers")
    model = build()
    complete = model.state_dict()  # has a version, without which PyTorch adds counts of batches
    complete.update(state)
    model.load_state_dict(complete)
    return model


def _check_shapes(shapes: dict[str, list[int]], expected: dict[str, Tensor], file: Path) -> None:
    """Refuse weights of another network before gigabytes are taken for it."""
    for name in sorted({*shapes, *expected}):
        wanted = list(expected[name].shape) if name in expected else "none"
        found = shapes.get(name, "none")
        if wanted != found:
            raise UserError(
                f"{file}: expected {name} of shape {wanted} for the network in config.yaml and the "
                f"classes in model.json, found {found}; the files are not of one run"
            )


def _missing(file: Path) -> UserError:
    return UserError(
        f"{file}: there is no such file, so the network of this run is not here; "
        "copy it here, or train the run again with rerun=true"
    )
