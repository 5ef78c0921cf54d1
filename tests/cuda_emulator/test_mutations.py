"""Defects planted in copies of the project, each of which the gpu tests must find."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
LOOP, GRAPHS, STEP = (f"cifar_exp/training/{name}.py" for name in ("loop", "cuda_graphs", "step"))
OPTIMIZERS, BATCHES = "cifar_exp/optimizers.py", "cifar_exp/data/batches.py"
DEVICE, MEMORY = "cifar_exp/training/device.py", "cifar_exp/training/memory.py"
METRICS = "cifar_exp/training/metrics.py"
WORKER = "cifar_exp/sweeps/worker.py"
EQUAL = (
    "tests/training/test_gpu.py::test_replayed_steps_equal_eager_steps_and_nearly_those_on_the_cpu"
)
RESUMED = "tests/training/test_gpu.py::test_a_run_resumes_from_any_step_bit_for_bit"
IN_MEMORY, IN_STEPS = "tests/training/test_gpu_memory.py", "tests/training/test_gpu_steps.py"
# name: (file, original, replacement, tests of which one must fail)
MUTATIONS = {
    "no synchronisation at the start": (
        LOOP,
        "torch.cuda.synchronize(self.compute.device)  # the images",
        "pass  # the images",
        f"{EQUAL}[adam]",
    ),
    "indices not advanced": (GRAPHS, "indices.add_(size)", "pass", f"{EQUAL}[adam]"),
    "indices not kept": (
        GRAPHS,
        "_Captured(graph, indices)",
        "_Captured(graph, indices.clone())",
        f"{EQUAL}[adam]",
    ),
    "warm-up not undone": (
        GRAPHS,
        "tensor.copy_(saved[tensor]) if tensor in saved else tensor.zero_()",
        "pass",
        f"{EQUAL}[adam]",
    ),
    "new state not zeroed": (GRAPHS, "else tensor.zero_()", "else None", f"{EQUAL}[sgd]"),
    "warm-up kept on the device": (GRAPHS, "detach().cpu()", "detach().clone()", IN_MEMORY),
    "learning rate as a Python float": (
        OPTIMIZERS,
        'settings["lr"] = torch.tensor(settings["lr"], device=device)',
        "pass",
        f"{EQUAL}[adam]",
    ),
    "learning rate as a CPU tensor": (
        OPTIMIZERS,
        'torch.tensor(settings["lr"], device=device)',
        'torch.tensor(settings["lr"])',
        f"{EQUAL}[adam]",
    ),
    "not capturable": (OPTIMIZERS, "capturable=on_gpu", "capturable=False", f"{EQUAL}[adam]"),
    "metrics read too early": (
        DEVICE,
        "return not self._on_gpu or bool(timestamp.query())",
        "return True",
        f"{EQUAL}[adam]",
    ),
    "one stream for two runs": (DEVICE, "_owners[owner] = stream", "pass", IN_MEMORY),
    "TF32": (DEVICE, "allow_tf32=False", "allow_tf32=True", "tests/runs/test_gpu.py"),
    "a value is read on the host": (
        METRICS,
        "total.add_(step.loss, alpha=step.count)",
        "total.add_(float(step.loss), alpha=step.count)",
        "tests/training/test_gpu_steps.py",
    ),
    "images are selected with a mask": (
        BATCHES,
        "images = self._train.index_select(0, chosen[0])",
        "images = self._train.index_select(0, chosen[0])\n        images[images > 300] = 0",
        IN_STEPS,
    ),
    "dropout from the GPU's generator": (
        "cifar_exp/models/dropout.py",
        "return features * kept / (1 - self.probability)",
        "return nn.functional.dropout(features, self.probability)",
        f"{EQUAL}[adam]",
    ),
    "indices on the CPU": (
        BATCHES,
        "self._counted = torch.arange(max(side, self.batch_size), device=images.device)",
        "self._counted = torch.arange(max(side, self.batch_size))",
        f"{EQUAL}[adam]",
    ),
    "staging from pageable memory": (BATCHES, ", pin_memory=True", "", IN_STEPS),
    "random numbers at a new address": (
        "cifar_exp/models/dropout.py",
        "self.step_keys.copy_(step_keys)",
        "self.step_keys = step_keys",
        f"{EQUAL}[adam]",
    ),
    "a checkpoint does not wait": (
        LOOP,
        "self._stream.synchronize()  # until",
        "pass  # until",
        RESUMED,
    ),
    "memory is freed in use": (
        LOOP,
        "self._stream.synchronize()  # other",
        "pass  # other",
        IN_MEMORY,
    ),
    "enqueued steps are counted": (LOOP, "self._throttle.done()", "self.steps", IN_STEPS),
    "copies not refreshed in a step": (
        STEP,
        "        self.refresh_bf16_weights()\n",
        "",
        "tests/training/test_gpu.py::test_runs_that_take_turns_equal_single_runs " + RESUMED,
    ),
    "copies not refreshed on resuming": (
        LOOP,
        "self.step.refresh_bf16_weights()",
        "pass",
        RESUMED,
    ),
    "metrics in memory of a graph": (
        METRICS,
        "sums = self.sums if self._processes.alone else",
        "sums = self.sums = self.sums.clone() if self._processes.alone else",
        f"{EQUAL}[adam]",
    ),
    "memory of ended runs kept": (
        WORKER,
        "torch.cuda.empty_cache()",
        "pass",
        "tests/runs/test_gpu.py",
    ),
    "memory of other runs counted": (MEMORY, " - self._others)", ")", IN_MEMORY),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_defect_is_found(tmp_path: Path, name: str) -> None:
    file, original, replacement, tests = MUTATIONS[name]
    copy = tmp_path / "project"
    ignored = shutil.ignore_patterns(".git", "docs", "__pycache__", ".*_cache", "multirun_results")
    shutil.copytree(ROOT, copy, ignore=ignored)
    text = (copy / file).read_text()
    assert original in text
    (copy / file).write_text(text.replace(original, replacement))
    command = [sys.executable, "-m", "pytest", "-m", "gpu and not integration", "-x", "-n", "0"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", *tests.split()],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stdout[-2000:]
    assert " failed" in result.stdout  # not an error in the mutation
