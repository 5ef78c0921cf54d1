"""Section `packed`: a sweep of several runs at once, through train.py."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from article_loop import ArticleLoop
from bench import Bench, train_py
from gpu_packed import packed_on_gpu
from measure import Table, at_least, seconds_of, spread

_GOAL = 3.0
_WIDTH = 0.125


def tables(bench: Bench) -> Iterator[Table]:
    """Measure a sweep of eight seeds, on a GPU with several numbers of runs at once."""
    yield packed_on_gpu(bench) if bench.device.type == "cuda" else _on_cpu(bench)


def _on_cpu(bench: Bench) -> Table:
    runs, epochs, sweeps = bench.times(8, 2), bench.times(2, 1), bench.times(2)
    size = bench.times(6400, 128)
    data = bench.data(size, size // 10)
    article = bench.article(bench.config(data, _WIDTH))
    _article_speed(bench, article)
    before_and_after = [_article_speed(bench, article)]
    whole, training = [], []
    for number in range(sweeps):
        folder = bench.scratch / f"packed-{number}"
        wall_seconds = train_py(
            "-m",
            *bench.overrides(data),
            f"model.width={_WIDTH}",
            f"epochs={epochs}",
            f"seed=range({runs})",
            folder=folder,
        )
        images = runs * epochs * len(bench.dataset(data).train)
        workers = min(torch.get_num_threads(), runs)
        whole.append(images / wall_seconds)
        training.append(images / (_training_seconds(folder) / workers))
        before_and_after.append(_article_speed(bench, article))
    rows, raw = [], []
    for what, speeds in (("whole command", whole), ("while training", training)):
        gains = [speed / fmean(before_and_after[i : i + 2]) for i, speed in enumerate(speeds)]
        rows.append(
            {
                "what": what,
                "article, images/s": spread(before_and_after),
                "ours, images/s": spread(speeds),
                "times as fast": spread(gains),
                "n": str(len(gains)),
                **at_least(_GOAL, gains),
            }
        )
        raw.append({**rows[-1], "article": before_and_after, "ours": speeds})
    return Table(
        "Many runs at once",
        f"Training images per second of `python train.py -m ... seed=range({runs})`, VGG16 at "
        f"width {_WIDTH:g}, {epochs} epochs of {len(bench.dataset(data).train)} images. They are "
        "compared with training epochs of the article's loop, measured before and after each "
        "sweep. Whole command: wall time with start, tests, figures and tables. While training: "
        "seconds of the training epochs of all runs, divided by the number of worker processes.",
        rows,
        raw,
    )


def _article_speed(bench: Bench, loop: ArticleLoop) -> float:
    """Train for an epoch and return the images per second."""
    images = 0

    def epoch() -> None:
        nonlocal images
        images = sum(loop.train_steps())

    seconds = seconds_of(epoch, bench.device)
    return images / seconds


def _training_seconds(folder: Path) -> float:
    """Return the total seconds of the training epochs of all runs."""
    files = folder.glob("*/runs/*/metrics.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines()]
    return sum(json.loads(line)["train_seconds"] for line in lines)
