"""Operations and synchronizations of captured steps, as the emulator counts them."""

from collections import Counter
from typing import Any

import pytest
import torch

from cifar_exp.config.schema import RunConfig
from cifar_exp.config.schema import Training as Length
from cifar_exp.models.settings import Model
from cifar_exp.training import throttle
from cifar_exp.training.cuda_graphs import CudaGraphs
from tests.on_gpu import GPU, Runs, config, data

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("images"))


def operations(gpu: Any, runs: Runs, run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Count the operations of a captured training step by name."""
    counted: dict[str, Counter] = {}
    capture = CudaGraphs.capture

    def capture_and_count(self: CudaGraphs, step: Any, name: str, size: int) -> None:
        gpu.op_log = []
        capture(self, step, name, size)
        counted[name] = Counter(op for op, _, captured, _ in gpu.op_log if captured)

    monkeypatch.setattr(CudaGraphs, "capture", capture_and_count)
    gpu.log_ops = True
    try:
        next(runs(run).run())
    finally:
        gpu.log_ops, gpu.op_log = False, []
    return counted["train"]


# The network has 92: 13 x (convolution, BatchNorm, ReLU), 5 poolings and the linear layer, forward
# and backward. The loss has 4.
@pytest.mark.parametrize(("precision", "most"), [("fp32", 107), ("bf16", 112)])
def test_a_step_of_the_baseline_has_few_operations(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch, precision: str, most: int
) -> None:
    run = config(
        model=Model(width=0.0625),
        data=data(train_size=16, augment="flip", cutout=0),
        training=Length(epochs=1),
        precision=precision,
    )
    found = operations(emulated_gpu, runs, run, monkeypatch)
    assert found.total() <= most, found
    assert found["aten::_to_copy"] <= (3 if precision == "bf16" else 0)


def test_optional_metrics_add_operations_only_if_enabled(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = data(train_size=16, augment="none", cutout=0)
    plain = operations(emulated_gpu, runs, config(data=small), monkeypatch)
    enabled = config(data=small, metrics=("top5_accuracy", "grad_norm"))
    measured = operations(emulated_gpu, runs, enabled, monkeypatch)
    added = measured - plain
    assert added["aten::sort"] or added["aten::argsort"]
    norms = added["aten::linalg_vector_norm"]  # one for each weight
    assert 0 < added.total() - norms < 10


def test_a_step_with_all_settings_creates_no_constants(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = operations(emulated_gpu, runs, config(data=data(train_size=16)), monkeypatch)
    constants = {
        "aten::arange",
        "aten::ones_like",
        "aten::zeros_like",
        "aten::stack",
        "aten::fill_",
    }
    assert not constants & set(found)
    assert found["aten::__rshift__"] == 3  # the hash of dropout


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_steps_and_epoch_starts_do_not_synchronize(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    run = runs(config(training=Length(epochs=3)))
    events = run.run()
    next(events)  # after capture
    try:
        torch.cuda.set_sync_debug_mode("error")
        while len(run.history) < 2:
            next(events)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    list(events)


def test_an_epoch_starts_with_one_copy_of_its_random_numbers(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_copied = []
    copy = torch.Tensor.copy_

    def count(self: torch.Tensor, source: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        if self.device.type == "cuda" and source.device.type == "cpu":
            assert source.is_pinned() or getattr(source, "_emulated_pin", False)
            bytes_copied.append(source.nbytes)
        return copy(self, source, **kwargs)

    for augment, hole, numbers in (("flip", 0, 2), ("none", 8, 4), ("crop_flip", 8, 6)):
        run = runs(config(data=data(augment=augment, cutout=hole)), graphs=False)
        monkeypatch.setattr(torch.Tensor, "copy_", count)
        bytes_copied.clear()
        run._begin_epoch(1)
        monkeypatch.undo()
        assert bytes_copied == [numbers * 40 * 8]


def test_the_learning_rate_is_written_only_when_it_changes(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs(config())
    events = run.run()
    next(events)
    before = emulated_gpu.ops["aten::fill_"]
    with torch.cuda.stream(run._stream):
        for _ in range(5):
            run.step.optimizer.set_lr(run.config.optimizer.lr)
        assert emulated_gpu.ops["aten::fill_"] == before
        run.step.optimizer.set_lr(0.5)
        assert emulated_gpu.ops["aten::fill_"] == before + 1
    list(events)


def test_progress_counts_steps_that_the_gpu_has_completed(
    emulated_gpu: Any, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "_STEPS_BETWEEN_PAUSES", 1)
    monkeypatch.setattr(emulated_gpu, "poll_lag", 10**9)  # polling never completes an event
    run = runs(config())
    events = run.run()
    assert [next(events).steps for _ in range(2)] == [0, 0]
    assert run.steps == 2
    torch.cuda.synchronize(GPU)
    assert next(events).steps >= 2
    monkeypatch.undo()
    list(events)
