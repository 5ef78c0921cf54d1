"""What a finished run leaves behind: the model and the pictures."""

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from cifar_exp.data.batches import channel_statistics
from cifar_exp.data.dataset import Dataset
from cifar_exp.files import write_atomically, write_json
from cifar_exp.training.loop import Training

_PICTURED_IMAGES = 40


def write_outputs(folder: Path, training: Training, dataset: Dataset) -> None:
    """Write curves.png and, unless the run diverged, the model and predictions.png.

    Args:
        folder: of the run.
        training: the run, all its epochs done.
        dataset: what it was trained on.
    """
    # matplotlib takes a second to import, which a run need not wait for before it trains
    from cifar_exp.figures.curves import draw_curves

    rows = [metrics.as_json() for metrics in training.history]
    curves = draw_curves(rows, folder.name, training.config.data.evaluated_on)
    write_atomically(folder / "curves.png", lambda file: save_figure(curves, file))
    if not training.diverged:
        _write_model(folder, training, dataset)
        _write_predictions(folder / "predictions.png", training, dataset)


def save_figure(figure: Any, path: Path) -> None:
    """Save a figure as PNG, whatever the ending of the path."""
    with warnings.catch_warnings():
        # a class name in a script that the font lacks shows as boxes; that is all
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, format="png", dpi=120)


def _write_model(folder: Path, training: Training, dataset: Dataset) -> None:
    weights = {
        # a copy each: the format has no tensors that share their memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in training.model.state_dict().items()
    }
    write_atomically(folder / "model.safetensors", lambda file: file.write_bytes(save(weights)))
    config = training.config
    mean_std = channel_statistics(dataset.train) if config.data.normalize == "channels" else None
    mean, std = mean_std or ([0.0] * 3, [1.0] * 3)
    write_json(
        folder / "model.json",
        {
            "architecture": config.model.model_dump(mode="json"),
            "parameters": sum(p.numel() for p in training.model.parameters()),
            "classes": list(dataset.classes),
            "image_size": dataset.train.images.shape[1],
            # of RGB values divided by 255
            "normalization": {"mean": mean, "std": std},
        },
    )


def _write_predictions(path: Path, training: Training, dataset: Dataset) -> None:
    from cifar_exp.figures.images import draw_predictions

    # from the whole test set, which may be sorted by class
    size = len(dataset.test)
    shown = min(size, _PICTURED_IMAGES)
    rows = [i * size // shown for i in range(shown)]
    predicted = training.logits(training.batches.test_images(rows)).argmax(1)
    figure = draw_predictions(
        dataset.test.images[rows].numpy(),
        dataset.test.labels[rows].tolist(),
        predicted.tolist(),
        dataset.classes,
    )
    write_atomically(path, lambda file: save_figure(figure, file))
