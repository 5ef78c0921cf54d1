"""Section `threads`: one run on a CPU with one thread and with all, also on a busy machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle

import torch
from bench import Bench
from measure import Table, in_turn, number, ratios, spread, using_threads

from cifar_exp.training.loop import Training
from cifar_exp.training.randomness import generator

_WIDTHS = (1 / 64, 1 / 8, 1.0)
_BATCHES = 10
_BUSY_PROCESSES = 2
_SECONDS = 1.5  # of a measurement; longer if a step takes longer


def tables(bench: Bench) -> Iterator[Table]:
    """Measure the training steps of one run; only on a CPU."""
    if bench.device.type == "cpu":
        yield _table(bench)


def _table(bench: Bench) -> Table:
    load, every = os.getloadavg()[0], torch.get_num_threads()
    seconds = 0.0 if bench.quick else _SECONDS
    rows, raw = [], []
    for planned in _WIDTHS:
        width = bench.width(planned)
        training = bench.training(bench.config(bench.data(_BATCHES * 64, 10), width))
        actions = {
            "one": partial(_images_per_second, training, 1, seconds),
            "all": partial(_images_per_second, training, every, seconds),
        }
        for busy in (0, _BUSY_PROCESSES):
            with busy_processes(busy):
                measured = in_turn(actions, bench.times(3))
            gains = ratios(measured["all"], measured["one"])
            rows.append(
                {
                    "width": f"{width:.3g}",
                    "busy processes": str(busy),
                    "1 thread, images/s": spread(measured["one"]),
                    f"all {every}, images/s": spread(measured["all"]),
                    "times as fast": spread(gains),
                    "n": str(len(gains)),
                    "threads of a run": str(training.compute.threads),
                }
            )
            raw.append({**rows[-1], "images_per_second": measured})
    return Table(
        "Threads of one run",
        f"Training steps of VGG16 with batches of 64 for {_SECONDS:g} s, with one and with all "
        f"threads in turn, alone and next to {_BUSY_PROCESSES} processes that each occupy a core. "
        "Last column: the number of threads that a run uses. Load average of the minute before "
        f"the measurement: {number(load)}.",
        rows,
        raw,
    )


def _images_per_second(training: Training, threads: int, seconds: float) -> float:
    batches, images = training.batches, 0
    batches.begin_epoch(generator(0, "order", 1), generator(0, "augmentation", 1))
    training.model.train()
    started = time.perf_counter()
    with using_threads(threads):
        for start in cycle(range(0, batches.train_size, batches.batch_size)):
            training.step.train(slice(start, start + batches.batch_size))
            images += batches.batch_size
            if (elapsed := time.perf_counter() - started) >= seconds:
                return images / elapsed
    raise AssertionError("there are no batches")


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Occupy cores within the block."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
