"""Writes the model and the figures of a finished run."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from cifar_exp.config.metrics import evaluated_split
from cifar_exp.data.batches import channel_statistics
from cifar_exp.data.dataset import Dataset, evenly_spaced
from cifar_exp.files import write_atomically, write_json
from cifar_exp.paths import CONFUSION_FILE, CURVES_FILE, MODEL_FILE, PREDICTIONS_FILE, WEIGHTS_FILE
from cifar_exp.training.loop import Training
from cifar_exp.training.metrics import class_balance

_SHOWN_IMAGES = 40
_DPI = 120


def write_outputs(folder: Path, training: Training, dataset: Dataset) -> dict[str, float]:
    """Write curves.png and, unless the run diverged, the model and figures of its predictions.

    Args:
        folder: folder of the run.
        training: the finished training loop.
        dataset: images that it was trained and tested on.

    Returns:
        Values for run.json from `class_balance`; empty if the run diverged.
    """
    # imported late: matplotlib takes a second
    from cifar_exp.figures.curves import draw_curves

    rows = [metrics.as_json() for metrics in training.history]
    curves = draw_curves(rows, folder.name, evaluated_split(training.config.data.evaluated_on))
    write_atomically(folder / CURVES_FILE, lambda file: save_figure(curves, file))
    if training.diverged:
        return {}
    _write_model(folder, training, dataset)
    return _write_predictions(folder, training, dataset)


def save_figure(figure: Any, path: Path) -> None:
    """Save a matplotlib figure as PNG; the path may have any suffix."""
    from cifar_exp.figures.drawing import lay_out

    with warnings.catch_warnings():
        # the font may lack the script of a class name, which is then shown as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.set_dpi(_DPI)
        lay_out(figure)
        figure.savefig(path, format="png", dpi=_DPI)


def _write_model(folder: Path, training: Training, dataset: Dataset) -> None:
    weights = {
        # copied, because safetensors does not support tensors that share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in training.model.state_dict().items()
    }
    write_atomically(folder / WEIGHTS_FILE, lambda file: file.write_bytes(save(weights)))
    config = training.config
    mean_std = channel_statistics(dataset.train) if config.data.normalize == "channels" else None
    mean, std = mean_std or ([0.0] * 3, [1.0] * 3)
    write_json(
        folder / MODEL_FILE,
        {
            "architecture": config.model.model_dump(mode="json"),
            "parameters": sum(p.numel() for p in training.model.parameters()),
            "classes": list(dataset.classes),
            "image_size": dataset.train.images.shape[1],
            # for RGB values in [0, 1]
            "normalization": {"mean": mean, "std": std},
        },
    )


def _write_predictions(folder: Path, training: Training, dataset: Dataset) -> dict[str, float]:
    from cifar_exp.figures.confusion import draw_confusion
    from cifar_exp.figures.images import draw_predictions

    predictions = _predicted(training)
    labels, split = dataset.test.labels, training.config.data.evaluated_on
    indices = evenly_spaced(len(dataset.test), _SHOWN_IMAGES)
    sheet = draw_predictions(
        dataset.test.images[indices].numpy(),
        labels[indices].tolist(),
        predictions[indices].tolist(),
        dataset.classes,
        split,
    )
    classes = len(dataset.classes)
    pairs = torch.bincount(labels.long() * classes + predictions, minlength=classes * classes)
    confusion = pairs.reshape(classes, classes)
    matrix = draw_confusion(confusion.numpy(), dataset.classes, split)
    write_atomically(folder / CONFUSION_FILE, lambda file: save_figure(matrix, file))
    # written last: `rebuild_state` takes this file as the sign of a complete run
    write_atomically(folder / PREDICTIONS_FILE, lambda file: save_figure(sheet, file))
    return class_balance(confusion)


def _predicted(training: Training) -> torch.Tensor:
    """Return the predicted class of each test image. Shape: `(N,)`."""
    batches, size = training.batches, training.batches.test_batch_size
    slices = [slice(start, start + size) for start in range(0, batches.test_size, size)]
    logits = (training.logits(batches.test_images(indices)) for indices in slices)
    return torch.cat([batch.argmax(1).cpu() for batch in logits])
