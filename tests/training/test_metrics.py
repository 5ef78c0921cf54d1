"""Metrics, and when a loss has diverged."""

import json
import math

import pytest
import torch

from cifar_exp.training.metrics import MetricSums, StepResult, class_balance
from cifar_exp.training.progress import EpochMetrics, has_diverged


def result(loss: float, logits: torch.Tensor, labels: list[int]) -> StepResult:
    model = torch.nn.Linear(1, 1)
    return StepResult(torch.tensor(loss), logits, torch.tensor(labels), len(labels), model)


def test_batches_are_weighted_by_their_number_of_images() -> None:
    sums = MetricSums(torch.device("cpu"), "train")
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    sums.add(result(2.0, right.repeat(3, 1), [0, 0, 0]))
    sums.add(result(6.0, wrong, [0]))
    # (3 * 2 + 1 * 6) / 4 and 3 / 4; the mean of batch means would be 4 and 1/2
    sums.fetch()
    assert sums.means(count=4) == {"loss": 3.0, "accuracy": 0.75}


def test_top5_accuracy_counts_labels_among_the_five_largest_logits() -> None:
    sums = MetricSums(torch.device("cpu"), "val", ["top5_accuracy"])
    logits = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    for label in range(7):
        sums.add(result(1.0, logits, [label]))
    sums.add(result(1.0, torch.zeros(2, 7), [4, 5]))  # equal logits
    sums.fetch()
    assert sums.means(count=9)["top5_accuracy"] == 6 / 9
    few = MetricSums(torch.device("cpu"), "val", ["top5_accuracy"])
    few.add(result(1.0, torch.zeros(1, 3), [2]))  # fewer than five classes
    few.fetch()
    assert few.means(count=1)["top5_accuracy"] == 1


def test_the_gradient_norm_is_that_of_all_parameters() -> None:
    sums = MetricSums(torch.device("cpu"), "train", ["grad_norm"])
    step = result(1.0, torch.zeros(2, 2), [0, 1])
    weight, bias = step.model.parameters()
    weight.grad, bias.grad = torch.full_like(weight, 3.0), torch.full_like(bias, 4.0)
    sums.add(step)
    sums.fetch()
    assert sums.means(count=2)["grad_norm"] == 5


def test_imbalanced_classes_have_a_balanced_accuracy_and_a_largest_class_share() -> None:
    # the first class is always predicted, and the last class is empty
    always_first = torch.tensor([[6, 0, 0], [2, 0, 0], [0, 0, 0]])
    balance = class_balance(always_first)
    assert balance == {"largest_class_share": 0.75, "balanced_accuracy": 0.5}
    assert class_balance(torch.tensor([[5, 0], [3, 2]])) == {}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (2.3, False),  # uniform guessing among ten classes
        (500.0, False),  # a bad start can still recover
        (5000.0, True),
        (math.nan, True),
        (math.inf, True),
    ],
)
def test_a_loss_far_above_guessing_has_diverged(loss: float, expected: bool) -> None:
    assert has_diverged(loss, classes=10) is expected


def test_non_finite_metrics_survive_json() -> None:
    metrics = EpochMetrics(1, {"train_loss": math.nan, "train_accuracy": 0.1})
    text = json.dumps(metrics.as_json(), allow_nan=False)
    loaded = EpochMetrics.from_json(json.loads(text), "test")
    assert math.isnan(loaded["train_loss"])
    assert loaded["train_accuracy"] == 0.1
