"""Run train.py up to its first training step, print the time and exit.

python benchmarks/first_step.py experiment=demo
"""

import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from cifar_exp.training.cuda_graphs import StepFn, StepRunner
from cifar_exp.training.loop import Training
from cifar_exp.training.progress import Progress

ROOT = Path(__file__).parents[1]
_train = Training._train


def _train_one_step(training: Training, epoch: int, run_step: StepRunner) -> Iterator[Progress]:
    def run_and_end(step: StepFn, name: str, start: int, size: int) -> None:
        run_step(step, name, start, size)
        if training.compute.on_gpu:
            torch.cuda.synchronize()
        print(f"\nfirst step: {time.time()}", flush=True)
        os._exit(0)

    return _train(training, epoch, run_and_end)


if __name__ == "__main__":
    Training._train = _train_one_step  # type: ignore[method-assign]
    sys.argv[0] = str(ROOT / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
