"""Does what train.py does, up to its first training step; then says the time and ends at once.

python benchmarks/first_step.py experiment=demo
"""

import os
import runpy
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from cifar_exp.training.cuda_graphs import Launch, Work
from cifar_exp.training.loop import Training
from cifar_exp.training.progress import Progress

ROOT = Path(__file__).parents[1]
_train = Training._train


def _train_one_step(training: Training, epoch: int, launch: Launch) -> Iterator[Progress]:
    def launch_and_end(work: Work, name: str, start: int, size: int) -> None:
        launch(work, name, start, size)
        if training.compute.on_gpu:
            torch.cuda.synchronize()
        print(f"\nfirst step: {time.time()}", flush=True)
        os._exit(0)

    return _train(training, epoch, launch_and_end)


if __name__ == "__main__":
    Training._train = _train_one_step  # type: ignore[method-assign]
    sys.argv[0] = str(ROOT / "train.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
