"""Evaluations and predictions as text, JSON and pictures."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from cifar_exp.data.dataset import Split
from cifar_exp.files import write_atomically, write_bytes, write_json
from cifar_exp.inference.evaluate import Evaluation
from cifar_exp.inference.load import TrainedRun
from cifar_exp.inference.predict import Prediction
from cifar_exp.paths import CONFUSION_FILE, PREDICTIONS_FILE
from cifar_exp.runs.artifacts import save_figure
from cifar_exp.terminal import printable

_MOST_COLUMNS = 20  # classes up to which the confusion matrix is printed
_TOLD_MISTAKES = 5
_PICTURED = 40
_BEST = 5  # classes of a picture that are drawn


def write_evaluation(
    folder: Path, run: TrainedRun, images: Split, evaluation: Evaluation, data: dict[str, Any]
) -> str:
    """Write evaluation.txt, evaluation.json and three pictures.

    Args:
        folder: where they go; made if need be.
        run: that was evaluated.
        images: on which.
        evaluation: what came out.
        data: the settings of these images.

    Returns:
        What stands in evaluation.txt.
    """
    from cifar_exp.figures.calibration import draw_reliability
    from cifar_exp.figures.confusion import draw_confusion

    folder.mkdir(parents=True, exist_ok=True)
    text = printable(_as_text(evaluation))  # names of classes may come from elsewhere
    if not evaluation.mistakes and (folder / "evaluation.json").is_file():
        (folder / "mistakes.png").unlink(missing_ok=True)  # of an evaluation that had some
    write_bytes(folder / "evaluation.txt", text.encode())
    about = {"run": run.path.name, "data": data, "compute": str(run.compute)}
    write_json(folder / "evaluation.json", about | _as_json(evaluation))
    bins = evaluation.bins
    figures = {
        CONFUSION_FILE: draw_confusion(evaluation.confusion, run.classes),
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
    return text


def _save(figure: Any, path: Path) -> None:
    write_atomically(path, lambda file: save_figure(figure, file))


def _mistakes(images: Split, evaluation: Evaluation) -> Any:
    from cifar_exp.figures.images import draw_mistakes

    shown = evaluation.mistakes[:_PICTURED]
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
        "confusion": evaluation.confusion.tolist(),  # a row a true class
        "most_confident_mistakes": [asdict(mistake) for mistake in evaluation.mistakes],
        "calibration": [asdict(one) for one in evaluation.bins],
    }


def _as_text(evaluation: Evaluation) -> str:
    low, high = evaluation.interval
    head = [
        ["images", f"{len(evaluation.labels):,}"],
        ["accuracy", f"{evaluation.accuracy:.4f}   (95 % interval {low:.4f} to {high:.4f})"],
        *([name.replace("_", " "), f"{value:.4f}"] for name, value in evaluation.balance.items()),
        ["loss", f"{evaluation.loss:.4f}"],
        ["expected calibration error", f"{evaluation.calibration_error:.4f}"],
    ]
    parts = [tabulate(head, tablefmt="plain", disable_numparse=True), _class_table(evaluation)]
    if len(evaluation.classes) <= _MOST_COLUMNS:
        parts.append(_confusion_table(evaluation))
    if evaluation.mistakes:
        parts.append(_mistake_table(evaluation))
    return "\n\n".join(parts) + "\n"


def _class_table(evaluation: Evaluation) -> str:
    rows = [
        [
            result.name,
            result.images,
            *(_number(value) for value in (result.precision, result.recall, result.f1)),
            result.taken_for or "",
        ]
        for result in evaluation.by_class
    ]
    header = ["class", "images", "precision", "recall", "F1", "most often taken for"]
    return tabulate(rows, header, disable_numparse=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _confusion_table(evaluation: Evaluation) -> str:
    numbers = [f"({place})" for place in range(1, len(evaluation.classes) + 1)]
    rows = [
        [f"{number} {name}", *(count or "." for count in counts)]
        for number, name, counts in zip(
            numbers, evaluation.classes, evaluation.confusion.tolist(), strict=True
        )
    ]
    align = ("left", *("right" for _ in numbers))
    return tabulate(rows, ["true class \\ taken for", *numbers], colalign=align)


def _mistake_table(evaluation: Evaluation) -> str:
    names = evaluation.classes
    rows = [
        [one.image, names[one.label], names[one.predicted], _number(one.probability)]
        for one in evaluation.mistakes[:_TOLD_MISTAKES]
    ]
    header = ["most confident mistakes: test image", "true class", "taken for", "probability"]
    return tabulate(rows, header, disable_numparse=True)


def write_predictions(folder: Path, run: TrainedRun, predictions: Sequence[Prediction]) -> str:
    """Write predictions.json with all probabilities, and predictions.png.

    Args:
        folder: where they go; made if need be.
        run: whose network predicted.
        predictions: at least one.

    Returns:
        A table: a line a picture.
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
    shown = predictions[:_PICTURED]
    figure = draw_probabilities(
        np.stack([prediction.pixels for prediction in shown]),
        [_text(prediction.file) for prediction in shown],
        [_best(run, prediction, _BEST) for prediction in shown],
    )
    _save(figure, folder / PREDICTIONS_FILE)
    return _prediction_table(run, predictions)


def _best(run: TrainedRun, prediction: Prediction, count: int) -> list[tuple[str, float]]:
    places = prediction.best(count)
    return [(run.classes[place], float(prediction.probabilities[place])) for place in places]


def _prediction_table(run: TrainedRun, predictions: Sequence[Prediction]) -> str:
    rows = []
    for prediction in predictions:
        (name, probability), *others = _best(run, prediction, 3)
        then = ", ".join(f"{other} {share:.4f}" for other, share in others)
        rows.append([_text(prediction.file), name, f"{probability:.4f}", then])
    return tabulate(rows, ["image", "class", "probability", "then"], disable_numparse=True)


def _text(file: str) -> str:
    """Return a file's name, which may hold bytes that are no text, as text."""
    return file.encode(errors="backslashreplace").decode()


def write_grid(folder: Path, run: TrainedRun, images: Split, count: int) -> Path:
    """Write grid.png: test images from the whole set with labels and predictions.

    Args:
        folder: where it goes; made if need be.
        run: whose network predicts.
        images: the test set.
        count: how many are shown, if there are so many.
    """
    from cifar_exp.figures.images import draw_predictions

    folder.mkdir(parents=True, exist_ok=True)
    shown = min(len(images), count)
    rows = [place * len(images) // shown for place in range(shown)]  # it may be sorted by class
    figure = draw_predictions(
        images.images[rows].numpy(),
        images.labels[rows].tolist(),
        run.logits(images.images[rows]).argmax(1).tolist(),
        run.classes,
    )
    _save(figure, folder / "grid.png")
    return folder / "grid.png"
