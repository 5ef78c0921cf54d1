"""How good a network is on test images, class by class, and where it is wrong."""

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

_MISTAKES = 100  # that are kept


@dataclass(frozen=True)
class ClassResult:
    """How one class fares.

    Attributes:
        name: of the class.
        images: of this class.
        precision: fraction of the images taken for it that are of it; None if there are none.
        recall: fraction of its images that are found; None if there are none.
        f1: harmonic mean of both, 0 if none is right; None where both are.
        taken_for: the class that its images are most often mistaken for; None if for none.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None
    taken_for: str | None


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        image: its place in the test set, counted from 0.
        label: position of its class.
        predicted: position of the class that it was taken for.
        probability: of the predicted class.
    """

    image: int
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """What a network made of test images.

    Attributes:
        classes: names.
        labels: the true classes. Shape: `(N,)`.
        probabilities: of all classes. Shape: `(N, classes)`.
        loss: mean cross-entropy in nats.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    loss: float

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The predicted classes. Shape: `(N,)`."""
        places: NDArray[np.int64] = self.probabilities.argmax(1)
        return places

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of the predicted class. Shape: `(N,)`."""
        highest: NDArray[np.float64] = self.probabilities.max(1)
        return highest

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Number of images by true class (row) and predicted class (column)."""
        matrix = np.zeros(2 * (len(self.classes),), np.int64)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    @property
    def accuracy(self) -> float:
        """Fraction of the images that is right."""
        return int(self.confusion.trace()) / len(self.labels)

    @property
    def balance(self) -> dict[str, float]:
        """See `class_balance`: empty where classes are about equally large."""
        return class_balance(torch.from_numpy(self.confusion))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy on images like these. Source: Wilson, 1927."""
        from scipy.stats import binomtest  # takes a second

        test = binomtest(int(self.confusion.trace()), len(self.labels))
        low, high = test.proportion_ci(0.95, method="wilson")
        return float(low), float(high)

    @cached_property
    def bins(self) -> list[Bin]:
        """Calibration of the predicted class's probability."""
        return calibration(self.confidence, self.predicted == self.labels)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return expected_calibration_error(self.bins)

    @cached_property
    def by_class(self) -> list[ClassResult]:
        """The result of each class."""
        return [self._of_class(place) for place in range(len(self.classes))]

    def _of_class(self, place: int) -> ClassResult:
        right = int(self.confusion[place, place])
        images, taken = int(self.confusion[place].sum()), int(self.confusion[:, place].sum())
        others = self.confusion[place].copy()
        others[place] = 0
        return ClassResult(
            self.classes[place],
            images,
            precision=right / taken if taken else None,
            recall=right / images if images else None,
            f1=2 * right / (images + taken) if images + taken else None,
            taken_for=self.classes[int(others.argmax())] if others.any() else None,
        )

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """The most confident mistakes, the most confident first, at most a hundred."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        order = wrong[np.argsort(-self.confidence[wrong], kind="stable")][:_MISTAKES]
        return [
            Mistake(
                int(image),
                int(self.labels[image]),
                int(self.predicted[image]),
                float(self.confidence[image]),
            )
            for image in order
        ]


def evaluate(run: TrainedRun, images: Split) -> Evaluation:
    """Measure a network as the run measured it after each epoch.

    Args:
        run: that was trained.
        images: with labels that are positions in `run.classes`.
    """
    logits = run.logits(images.images).double()
    return Evaluation(
        run.classes,
        images.labels.numpy(),
        logits.softmax(1).numpy(),
        float(functional.cross_entropy(logits, images.labels)),
    )


def difference_from_training(run: TrainedRun, evaluation: Evaluation) -> str | None:
    """Say how the last line of metrics.jsonl differs; None if it tells the same numbers.

    Rounding differs between devices, and in bf16 between processors as well.
    """
    last = run.metrics[-1]
    on = run.config.data.evaluated_on
    accuracy, loss = (last[evaluated(name, on)] for name in ("accuracy", "loss"))
    same = np.isclose([evaluation.accuracy, evaluation.loss], [accuracy, loss], 1e-4, 1e-6)
    if same.all():
        return None
    return f"at the end of training: accuracy {accuracy:.4f}, loss {loss:.4f}"
