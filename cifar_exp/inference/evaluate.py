"""Evaluate a network on test images: accuracy, results of each class, confident mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cifar_exp.config.metrics import evaluated
from cifar_exp.data.dataset import Split
from cifar_exp.inference.calibration import Bin, calibration, expected_calibration_error
from cifar_exp.inference.load import TrainedRun
from cifar_exp.training.metrics import class_balance

_MISTAKES = 100  # maximum number of mistakes to keep


@dataclass(frozen=True)
class ClassResult:
    """Results of a class.

    Attributes:
        name: name of the class.
        images: number of its images.
        precision: fraction of the images predicted as this class that belong to it; None if the
            class is never predicted.
        recall: fraction of its images that are predicted as this class; None if it has no images.
        f1: harmonic mean of precision and recall; None if both are None.
        taken_for: the class that its images are most often mistaken for; None if all are correct.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None
    taken_for: str | None


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        image: index of the image in the evaluated split.
        label: index of the true class.
        predicted: index of the predicted class.
        probability: probability of the predicted class.
        file: path of the image relative to `data.root`; None if it is not a file.
    """

    image: int
    label: int
    predicted: int
    probability: float
    file: str | None


@dataclass(frozen=True)
class Evaluation:
    """The predictions of a network for test images.

    Attributes:
        classes: class names.
        labels: true classes. Shape: `(N,)`.
        probabilities: probabilities of all classes. Shape: `(N, classes)`.
        loss: mean cross-entropy in nats.
        files: paths of the images relative to `data.root`; empty if they are not files.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    loss: float
    files: Sequence[str] = ()

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted classes. Shape: `(N,)`."""
        indices: NDArray[np.int64] = self.probabilities.argmax(1)
        return indices

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probabilities of the predicted classes. Shape: `(N,)`."""
        highest: NDArray[np.float64] = self.probabilities.max(1)
        return highest

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The number of images by true class (row) and predicted class (column)."""
        matrix = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    @property
    def accuracy(self) -> float:
        """The fraction of correct predictions."""
        return int(self.confusion.trace()) / len(self.labels)

    @property
    def balance(self) -> dict[str, float]:
        """The metrics of `class_balance`; empty if classes have about the same size."""
        return class_balance(torch.from_numpy(self.confusion))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy. Source: Wilson, 1927."""
        from scipy.stats import binomtest  # importing scipy takes 1 s

        test = binomtest(int(self.confusion.trace()), len(self.labels))
        low, high = test.proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    @cached_property
    def bins(self) -> list[Bin]:
        """The calibration of the predicted probabilities."""
        return calibration(self.confidence, self.predicted == self.labels)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        return expected_calibration_error(self.bins)

    @cached_property
    def by_class(self) -> list[ClassResult]:
        """The results of each class."""
        return [self._class_result(label) for label in range(len(self.classes))]

    def _class_result(self, label: int) -> ClassResult:
        correct = int(self.confusion[label, label])
        images, predicted = int(self.confusion[label].sum()), int(self.confusion[:, label].sum())
        others = self.confusion[label].copy()
        others[label] = 0
        return ClassResult(
            self.classes[label],
            images,
            precision=correct / predicted if predicted else None,
            recall=correct / images if images else None,
            f1=2 * correct / (images + predicted) if images + predicted else None,
            taken_for=self.classes[int(others.argmax())] if others.any() else None,
        )

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """At most 100 mistakes, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order = wrong[np.argsort(-self.confidence[wrong], kind="stable")][:_MISTAKES]
        return [
            Mistake(
                int(image),
                int(self.labels[image]),
                int(self.predicted[image]),
                float(self.confidence[image]),
                self.files[image] if self.files else None,
            )
            for image in order
        ]


def evaluate(run: TrainedRun, images: Split) -> Evaluation:
    """Evaluate a network as after each epoch of training.

    Args:
        run: trained run.
        images: images with labels that are indices into `run.classes`.
    """
    logits = run.logits(images.images).double()
    return Evaluation(
        run.classes,
        images.labels.numpy(),
        logits.softmax(1).numpy(),
        float(functional.cross_entropy(logits, images.labels)),
        images.files,
    )


def difference_from_training(run: TrainedRun, evaluation: Evaluation) -> str | None:
    """Describe the line of metrics.jsonl for the run's weights if it differs from an evaluation.

    Rounding errors differ between devices, and in bf16 between processors.

    Args:
        run: trained run.
        evaluation: evaluation on the same images.

    Returns:
        A message; None if both agree.
    """
    row = run.metrics[run.epoch - 1]
    split = run.config.data.evaluated_on
    accuracy, loss = (row[evaluated(name, split)] for name in ("accuracy", "loss"))
    same = np.isclose([evaluation.accuracy, evaluation.loss], [accuracy, loss], 1e-4, 1e-6)
    if same.all():
        return None
    return f"in training, after epoch {run.epoch}: accuracy {accuracy:.4f}, loss {loss:.4f}"
