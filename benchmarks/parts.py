"""Section `parts`: time of each part of a step, and its lower bound."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from article_loop import ArticleLoop
from bench import Bench
from floors import HOW_COUNTED, Rates, Work, measured_rates, work_of_parts
from measure import Table, in_turn, number, ratios, seconds_of, spread, using_threads, wait

from cifar_exp.training.device import Clock, new_stream, on_stream
from cifar_exp.training.loop import Training
from cifar_exp.training.metrics import StepResult
from cifar_exp.training.randomness import generator

_OF_A_STEP = ("input", "forward", "backward", "optimizer", "metrics")
_SMALLEST_FLOOR_SECONDS = 1e-6  # parts with smaller floors are not compared
# About 50 ms. The GPU sleeps while the parts are submitted. Then they run without gaps, as in a
# replayed step, and the events between them measure the time on the GPU.
_SLEEP_CYCLES = 100_000_000


def tables(bench: Bench) -> Iterator[Table]:
    """Measure the parts of a step at batch size 64, for two widths."""
    for width in (1.0, 0.125):
        yield _table(bench, bench.width(width))


def _table(bench: Bench, width: float) -> Table:
    config = bench.config(bench.data(bench.times(640, 64), bench.times(250, 20)), width)
    training = bench.training(config)
    batches, precision = training.batches, training.compute.precision
    threads = training.compute.threads
    with using_threads(threads):
        rates = measured_rates(bench, precision)
    batches.begin_epoch(generator(0, "order", 1), generator(0, "augmentation", 1))
    actions: dict[str, Callable[[], Any]] = {
        "article": partial(_article_step_seconds, bench, _endless(bench.article(config))),
        "parts": partial(_parts_seconds, training, new_stream(bench.device, training)),
    }
    measured = in_turn(actions, bench.times(9 if bench.device.type == "cpu" else 30))
    parts: list[dict[str, float]] = measured["parts"]
    work = work_of_parts(width, batches.batch_size, batches.test_batch_size, precision == "bf16")
    rows = [_row(name, [times[name] for times in parts], work[name], rates) for name in work]
    steps = [sum(times[name] for name in _OF_A_STEP) for times in parts]
    rows.append(_step_row(steps, [rates.floor_seconds(work[name]) for name in _OF_A_STEP]))
    return Table(
        f"Parts of a step: width {width:g}, batch {batches.batch_size}, {precision}",
        _explanation(rates, precision, measured["article"], steps, batches.test_batch_size),
        rows,
        [{"rates": vars(rates), "parts_seconds": parts, "article_seconds": measured["article"]}],
    )


def _explanation(
    rates: Rates, precision: str, article: list[float], steps: list[float], test_batch_size: int
) -> str:
    return (
        f"The article's step takes {spread(article, 1000)} ms, measured in turn with ours. Ours is "
        f"{spread(ratios(article, steps))} times as fast, n={len(steps)}. Evaluation is of "
        f"{test_batch_size} images and is not part of the step. Measured rates: "
        f"{number(rates.flop_per_second / 1e12)} TFLOP/s in a large product in {precision}, "
        f"{number(rates.bytes_per_second / 1e9)} GB/s in a large copy, read and written.\n\n"
        f"{HOW_COUNTED}"
    )


def _row(name: str, seconds: list[float], work: Work, rates: Rates) -> dict[str, str]:
    floor = rates.floor_seconds(work)
    compared = floor >= _SMALLEST_FLOOR_SECONDS
    return {
        "part": name,
        "ms": spread(seconds, 1000),
        "arithmetic, ms": number(1000 * work.flop / rates.flop_per_second),
        "memory, ms": number(1000 * work.moved_bytes / rates.bytes_per_second),
        "times its floor": spread([s / floor for s in seconds]) if compared else "floor < 1 µs",
        "n": str(len(seconds)),
    }


def _step_row(steps: list[float], floors: list[float]) -> dict[str, str]:
    return {
        "part": "whole step",
        "ms": spread(steps, 1000),
        "arithmetic, ms": "",
        "memory, ms": "",
        "times its floor": spread([seconds / sum(floors) for seconds in steps]),
        "n": str(len(steps)),
    }


def _endless(loop: ArticleLoop) -> Iterator[int]:
    while True:
        yield from loop.train_steps()


def _article_step_seconds(bench: Bench, steps: Iterator[int]) -> float:
    return seconds_of(lambda: next(steps), bench.device)


def _parts_seconds(training: Training, stream: torch.cuda.Stream | None) -> dict[str, float]:
    """Take one step as `Step.train` does, with a timestamp after each part, and test a batch."""
    device, step = training.compute.device, training.step
    clock = Clock(device)
    wait(device)
    with (
        using_threads(training.compute.threads),
        on_stream(stream, training.config.deterministic),
    ):
        if stream is not None:
            torch.cuda._sleep(_SLEEP_CYCLES)
        marks = [clock.record()]
        images, labels = training.batches.train_batch(slice(0, training.batches.batch_size))
        marks.append(clock.record())
        training.model.train()
        loss, logits = step.forward(images, labels, len(labels))
        marks.append(clock.record())
        step.backward(loss)
        marks.append(clock.record())
        step.optimizer_step()
        marks.append(clock.record())
        measured = StepResult(loss.detach(), logits.detach(), labels, len(labels), training.model)
        step.train_sums.add(measured)
        marks.append(clock.record())
        training.model.eval()
        step.test(slice(0, training.batches.test_batch_size))
        marks.append(clock.record())
    wait(device)
    names = (*_OF_A_STEP, "evaluation")
    return {
        name: clock.seconds(start, end)
        for name, (start, end) in zip(names, pairwise(marks), strict=True)
    }
