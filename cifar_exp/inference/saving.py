"""Save evaluations and predictions as text, JSON and figures."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from cifar_exp.data.dataset import Split, evenly_spaced
from cifar_exp.data.settings import Data
from cifar_exp.files import write_atomically, write_bytes, write_json
from cifar_exp.inference.evaluate import Evaluation
from cifar_exp.inference.load import TrainedRun
from cifar_exp.inference.predict import Prediction
from cifar_exp.paths import CONFUSION_FILE, PREDICTIONS_FILE
from cifar_exp.runs.artifacts import save_figure
from cifar_exp.terminal import columns, one_line, printable, table

_PRINTED_CLASSES = 20  # larger confusion matrices are not printed
_PRINTED_MISTAKES = 5
_DRAWN = 40  # mistakes in a figure
_BEST = 5  # classes drawn for each image


def write_evaluation(
    folder: Path, run: TrainedRun, images: Split, evaluation: Evaluation, data: Data
) -> str:
    """Write evaluation.txt, evaluation.json and three figures.

    Args:
        folder: output folder; created if missing.
        run: trained run.
        images: test or validation images.
        evaluation: evaluation of the run on the images.
        data: settings of the images.

    Returns:
        The content of evaluation.txt, wrapped to the width of the terminal.
    """
    from cifar_exp.figures.calibration import draw_reliability
    from cifar_exp.figures.confusion import draw_confusion

    folder.mkdir(parents=True, exist_ok=True)
    text = _as_text(run, evaluation, data.evaluated_on)
    if not evaluation.mistakes and (folder / "evaluation.json").is_file():
        (folder / "mistakes.png").unlink(missing_ok=True)  # from an earlier evaluation
    write_bytes(folder / "evaluation.txt", text.encode())
    head = {"run": run.path.name, "epoch": run.epoch, "data": data.model_dump(mode="json")}
    head |= {"compute": str(run.compute)}
    write_json(folder / "evaluation.json", head | _as_json(evaluation))
    bins = evaluation.bins
    figures = {
        CONFUSION_FILE: draw_confusion(evaluation.confusion, run.classes, data.evaluated_on),
        "reliability.png": draw_reliability(
            [0.0, *(one.high for one in bins)],
            [one.images for one in bins],
            [one.confidence for one in bins],
            [one.accuracy for one in bins],
            evaluation.calibration_error,
        ),
    }
    if evaluation.mistakes:
        figures["mistakes.png"] = _mistakes(images, evaluation)
    for name, figure in figures.items():
        _save(figure, folder / name)
    return _as_text(run, evaluation, data.evaluated_on, columns())


def _save(figure: Any, path: Path) -> None:
    write_atomically(path, lambda file: save_figure(figure, file))


def _mistakes(images: Split, evaluation: Evaluation) -> Any:
    from cifar_exp.figures.images import draw_mistakes

    shown = evaluation.mistakes[:_DRAWN]
    return draw_mistakes(
        images.images[[mistake.image for mistake in shown]].numpy(),
        [mistake.label for mistake in shown],
        [mistake.predicted for mistake in shown],
        [mistake.probability for mistake in shown],
        evaluation.classes,
    )


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "images": len(evaluation.labels),
        "accuracy": evaluation.accuracy,
        "accuracy_95_percent_interval": list(evaluation.interval),
        **evaluation.balance,
        "loss": evaluation.loss,
        "expected_calibration_error": evaluation.calibration_error,
        "classes": list(evaluation.classes),
        "by_class": [asdict(result) for result in evaluation.by_class],
        "confusion": evaluation.confusion.tolist(),
        "most_confident_mistakes": [
            asdict(mistake) | {"file": mistake.file and _text(mistake.file)}
            for mistake in evaluation.mistakes
        ],
        "calibration": [asdict(one) for one in evaluation.bins],
    }


def _as_text(run: TrainedRun, evaluation: Evaluation, split: str, width: int | None = None) -> str:
    low, high = evaluation.interval
    chosen = "the best on validation images" if "epoch_kept" in run.state else "the last"
    head = [
        ["weights", f"of epoch {run.epoch}, {chosen}"],
        ["images", f"{len(evaluation.labels):,}"],
        ["accuracy", f"{evaluation.accuracy:.4f}   (95 % interval {low:.4f} to {high:.4f})"],
        *([name.replace("_", " "), f"{value:.4f}"] for name, value in evaluation.balance.items()),
        ["loss", f"{evaluation.loss:.4f}"],
        ["expected calibration error", f"{evaluation.calibration_error:.4f}"],
    ]
    parts = [
        tabulate(head, tablefmt="plain", disable_numparse=True),
        _class_table(evaluation, width),
    ]
    if len(evaluation.classes) <= _PRINTED_CLASSES:
        parts.append(_confusion_table(evaluation))
    if evaluation.mistakes:
        parts.append(_mistake_table(evaluation, split, width))
    return printable("\n\n".join(parts) + "\n")  # class names may contain anything


def _class_table(evaluation: Evaluation, width: int | None) -> str:
    rows = [
        [
            one_line(result.name),
            result.images,
            *(_number(value) for value in (result.precision, result.recall, result.f1)),
            one_line(result.taken_for or ""),
        ]
        for result in evaluation.by_class
    ]
    header = ["class", "images", "precision", "recall", "F1", "most often mistaken for"]
    return table(rows, header, width)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _confusion_table(evaluation: Evaluation) -> str:
    numbers = [f"({number})" for number in range(1, len(evaluation.classes) + 1)]
    rows = [
        [f"{number} {one_line(name)}", *(count or "." for count in counts)]
        for number, name, counts in zip(
            numbers, evaluation.classes, evaluation.confusion.tolist(), strict=True
        )
    ]
    align = ("left", *("right" for _ in numbers))
    return tabulate(rows, ["true class \\ predicted", *numbers], colalign=align)


def _mistake_table(evaluation: Evaluation, split: str, width: int | None) -> str:
    names = list(map(one_line, evaluation.classes))
    rows = [
        [
            mistake.image if mistake.file is None else one_line(mistake.file),
            names[mistake.label],
            names[mistake.predicted],
            _number(mistake.probability),
        ]
        for mistake in evaluation.mistakes[:_PRINTED_MISTAKES]
    ]
    header = [f"most confident mistakes: {split} image", "true class", "predicted", "probability"]
    return table(rows, header, width)


def write_predictions(folder: Path, run: TrainedRun, predictions: Sequence[Prediction]) -> str:
    """Write predictions.json and predictions.png.

    Args:
        folder: output folder; created if missing.
        run: trained run.
        predictions: at least one prediction.

    Returns:
        A table with one line per image.
    """
    from cifar_exp.figures.probabilities import draw_probabilities

    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "file": _text(prediction.file),
            "class": run.classes[prediction.best(1)[0]],
            "probabilities": dict(zip(run.classes, prediction.probabilities.tolist(), strict=True)),
        }
        for prediction in predictions
    ]
    write_json(folder / "predictions.json", {"run": run.path.name, "predictions": rows})
    # only the first predictions have pixels
    images = [prediction.pixels for prediction in predictions if prediction.pixels is not None]
    shown = predictions[: len(images)]
    figure = draw_probabilities(
        np.stack(images),
        [_text(prediction.file) for prediction in shown],
        [_best(run, prediction, _BEST) for prediction in shown],
    )
    _save(figure, folder / PREDICTIONS_FILE)
    return _prediction_table(run, predictions)


def write_csv(file: Path, run: TrainedRun, predictions: Sequence[Prediction]) -> None:
    """Write a CSV file with one row per image: file, class, and the probability of each class.

    Args:
        file: output file; its folder is created if missing.
        run: trained run.
        predictions: of the run.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "class", *(f"probability of {name}" for name in run.classes)])
    for prediction in predictions:
        name = run.classes[prediction.best(1)[0]]
        writer.writerow([_text(prediction.file), name, *prediction.probabilities.tolist()])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, text.getvalue().encode())


def _best(run: TrainedRun, prediction: Prediction, count: int) -> list[tuple[str, float]]:
    indices = prediction.best(count)
    return [(run.classes[index], float(prediction.probabilities[index])) for index in indices]


def _prediction_table(run: TrainedRun, predictions: Sequence[Prediction]) -> str:
    rows = []
    for prediction in predictions:
        (name, probability), *others = _best(run, prediction, 3)
        then = ", ".join(f"{other} {_number(value)}" for other, value in others)
        rows.append([prediction.file, name, _number(probability), then])
    lines = [list(map(one_line, row)) for row in rows]
    return table(lines, ["image", "class", "probability", "then"], columns())


def _text(file: str) -> str:
    """Return a file name, which may not be valid UTF-8, as text."""
    return file.encode(errors="backslashreplace").decode()


def write_grid(folder: Path, run: TrainedRun, images: Split, count: int, split: str) -> Path:
    """Write grid.png: images with labels and predictions.

    Args:
        folder: output folder; created if missing.
        run: trained run.
        images: labelled images.
        count: maximum number of images to draw, evenly spaced.
        split: of the images, "test" or "validation".

    Returns:
        The path of grid.png.
    """
    from cifar_exp.figures.images import draw_predictions

    folder.mkdir(parents=True, exist_ok=True)
    indices = evenly_spaced(len(images), count)
    figure = draw_predictions(
        images.images[indices].numpy(),
        images.labels[indices].tolist(),
        run.logits(images.images[indices]).argmax(1).tolist(),
        run.classes,
        split,
    )
    _save(figure, folder / "grid.png")
    return folder / "grid.png"
