"""Section `epochs`: our loop against the article's, whole epochs with their test."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from article_loop import ArticleLoop
from bench import Bench, Precision
from floors import counts
from measure import (
    Table,
    at_least,
    at_most,
    in_turn,
    number,
    ratios,
    seconds_of,
    spread,
    using_threads,
)
from one_image import steps_of_one_image

from cifar_exp.data.settings import Data
from cifar_exp.training.device import choose_compute
from cifar_exp.training.progress import EpochMetrics, Progress

_GOAL_CPU = 2.0
_GOAL_GPU = 8.0
_GOAL_STEP_MS = 1.0
_GOAL_TFLOP_PER_SECOND = 250.0


def tables(bench: Bench) -> Iterator[Table]:
    """Measure epochs, and on a GPU also steps of one image."""
    if bench.device.type == "cpu":
        yield _on_cpu(bench)
    else:
        yield _on_gpu(bench)
        yield steps_of_one_image(bench)


def _on_cpu(bench: Bench) -> Table:
    rows, raw = [], []
    for planned, size in ((1.0, bench.times(640, 64)), (0.125, bench.times(6400, 64))):
        width = bench.width(planned)
        data = bench.data(size, size // 5)
        auto = choose_compute(bench.config(data, width)).precision
        precisions: list[Precision] = ["fp32"] if auto == "fp32" else ["fp32", "bf16"]
        measured, images = _measure(bench, data, width, precisions, bench.times(5))
        for name in precisions:
            article, ours = ([seconds for seconds, _ in measured[key]] for key in ("article", name))
            gains = ratios(article, ours)
            rows.append(
                {
                    "width": f"{width:g}",
                    "precision": name,
                    "training images": str(images),
                    "article, s": spread(article),
                    "ours, s": spread(ours),
                    "times as fast": spread(gains),
                    "n": str(len(gains)),
                    **(at_least(_GOAL_CPU, gains) if name == auto else {"goal": "", "met": ""}),
                }
            )
            raw.append({**rows[-1], "article_seconds": article, "our_seconds": ours})
    return Table("One run: whole epochs", _EXPLANATION, rows, raw)


def _on_gpu(bench: Bench) -> Table:
    rows, raw = [], []
    settings = ((1.0, 64), (1.0, 256), (1.0, 1024), (0.125, 64))
    for planned, batch_size in settings[: bench.times(4)]:
        width = bench.width(planned)
        size = bench.times(12_800, 128)  # 50,000 would take minutes in the article's loop
        data = bench.data(size, size // 5, batch_size)
        measured, images = _measure(bench, data, width, ["auto"], bench.times(5))
        article, ours = ([seconds for seconds, _ in measured[key]] for key in ("article", "auto"))
        training = [metrics["train_seconds"] for _, metrics in measured["auto"] if metrics]
        gains, steps = ratios(article, ours), -(-images // batch_size)
        step_ms = [1000 * seconds / steps for seconds in training]
        flop = images * counts(width).training_flop
        speeds = [flop / seconds / 1e12 for seconds in training]
        goal = {"goal": "", "met": ""}
        if planned == 1 and batch_size == 64:
            ratio, step = at_least(_GOAL_GPU, gains), at_most(_GOAL_STEP_MS, step_ms)
            goal = {key: f"{ratio[key]}; step {step[key]}" for key in ratio}
        if batch_size == 1024:
            reached = at_least(_GOAL_TFLOP_PER_SECOND, speeds)
            goal = {"goal": f"{reached['goal']} TFLOP/s", "met": reached["met"]}
        rows.append(
            {
                "width": f"{width:g}",
                "batch": str(batch_size),
                "training images": str(images),
                "article, s": spread(article),
                "ours, s": spread(ours),
                "times as fast": spread(gains),
                "our training step, ms": spread(step_ms),
                "TFLOP/s": spread(speeds),
                "n": str(len(gains)),
                **goal,
            }
        )
        raw.append(
            {
                **rows[-1],
                "article_seconds": article,
                "our_seconds": ours,
                "our_training_seconds": training,
            }
        )
    flop_text = number(counts(1.0).training_flop / 1e6)
    counted = f" TFLOP/s: an image at width 1 takes {flop_text} MFLOP forward and backward."
    return Table("One run: whole epochs", _EXPLANATION + counted, rows, raw)


_EXPLANATION = (
    "Wall time of an epoch of VGG16 and its test on a fifth as many images, measured in turn after "
    "a warm-up epoch of each. The article's loop computes in fp32 without TF32. Ours computes in "
    "bf16 if the device is faster in it, otherwise in fp32 (`precision=auto`, which has the goal). "
    "On a CPU the article's loop uses all threads, and ours as many as a run does."
)


def _measure(
    bench: Bench, data: Data, width: float, precisions: list[Precision], repetitions: int
) -> tuple[dict[str, list[Any]], int]:
    """Return (seconds, metrics) of every epoch by loop, and the number of training images."""
    article = bench.article(bench.config(data, width))
    epochs: dict[str, Callable[[], Any]] = {"article": partial(_article_epoch, bench, article)}
    for precision in precisions:
        training = bench.training(bench.config(data, width, precision))
        threads = training.compute.threads
        epochs[precision] = partial(_our_epoch, bench, training.run(), threads)
    return in_turn(epochs, repetitions), len(bench.dataset(data).train)


def _article_epoch(bench: Bench, loop: ArticleLoop) -> tuple[float, None]:
    return seconds_of(loop.epoch, bench.device), None


def _our_epoch(
    bench: Bench, events: Iterator[Progress | EpochMetrics], threads: int
) -> tuple[float, EpochMetrics]:
    found: list[EpochMetrics] = []

    def epoch() -> None:
        found.append(next(event for event in events if isinstance(event, EpochMetrics)))

    with using_threads(threads):
        seconds = seconds_of(epoch, bench.device)
    return seconds, found[0]
