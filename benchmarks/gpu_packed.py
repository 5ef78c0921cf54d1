"""Section `packed` on a GPU: several runs on one device against one run."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench import Bench, train_py
from measure import Table, at_least, number, ratios, spread

# Width, batch size, epochs and goal. Runs must take longer than starting eight of them.
_SETTINGS = ((1.0, 64, 6, 1.4), (1.0, 16, 4, 1.6), (0.125, 64, 60, 4.0))
_RUNS_AT_ONCE = (1, 2, 4, 8)
_WINDOWS = 5  # equal parts of the time in which all runs train
_POLL_SECONDS = 0.05
_EPOCH_LINE = re.compile(r"^(\S+ \S+) INFO epoch \d+: ", re.MULTILINE)

Span = tuple[float, float]  # seconds of the wall clock

_EXPLANATION = (
    "One seed of VGG16 for each run, with `hydra.launcher.runs_per_device`. The speed is that of "
    "epochs and their tests while all runs train, in "
    f"{_WINDOWS} equal windows of that time. Long runs spend nearly all their time like this. "
    "Start and figures are excluded. Memory is that of the whole GPU, minus what was in use "
    "before. The goal is for the best number of runs at once."
)


def packed_on_gpu(bench: Bench) -> Table:
    """Measure the runs per hour for each number of runs at once."""
    rows, raw = [], []
    settings = _SETTINGS[: bench.times(3)]
    counts = _RUNS_AT_ONCE[: bench.times(4, 2)]
    for planned, batch_size, epochs, goal in settings:
        width = bench.width(planned)
        speeds: dict[int, list[float]] = {}
        peaks: dict[int, int] = {}
        for count in counts:
            folder = bench.scratch / f"packed-{width}-{batch_size}-{count}"
            with _peak_memory(bench.device) as peak:
                _train_at_once(bench, width, batch_size, epochs, count, folder)
            speeds[count], peaks[count] = _epochs_per_second(folder), max(peak)
        gains = {count: ratios(speeds[count], speeds[1]) for count in speeds}
        best = max(gains, key=lambda count: median(gains[count]))
        for count in counts:
            met = at_least(goal, gains[count]) if count == best else {"goal": "", "met": ""}
            row = {
                "width": f"{width:g}",
                "batch": str(batch_size),
                "runs at once": str(count),
                "runs of 100 epochs per hour": spread(speeds[count], 3600 / 100),
                "times one run": spread(gains[count]),
                "n": str(len(gains[count])),
                "peak memory, GB": number(peaks[count] / 1e9),
                **met,
            }
            rows.append(row)
            raw.append(_with_raw(row, speeds[count], peaks[count]))
    return Table("Many runs at once", _EXPLANATION, rows, raw)


def _with_raw(row: dict[str, str], speeds: list[float], peak: int) -> dict[str, Any]:
    return {**row, "epochs_per_second": speeds, "peak_memory_bytes": peak}


def _train_at_once(
    bench: Bench, width: float, batch_size: int, epochs: int, count: int, folder: Path
) -> None:
    size = bench.times(50_000, 64)
    train_py(
        "-m",
        *bench.overrides(bench.data(size, size // 5, batch_size)),
        f"model.width={width}",
        f"epochs={bench.times(epochs, 20)}",
        f"hydra.launcher.runs_per_device={count}",
        f"seed=range({count})",
        folder=folder,
    )


def _epochs_per_second(folder: Path) -> list[float]:
    """Return the epochs per second of all runs together, in each window."""
    runs = [_epochs(path) for path in folder.glob("*/runs/*")]
    # excludes the first epochs, during which other runs start
    start = max(epochs[0][1] for epochs in runs)
    end = min(epochs[-1][1] for epochs in runs)
    if end <= start:
        raise RuntimeError(
            f"one of {len(runs)} runs ended before all had started; train more epochs"
        )
    edges = [start + i * (end - start) / _WINDOWS for i in range(_WINDOWS + 1)]
    every = [epoch for epochs in runs for epoch in epochs]
    return [_epochs_within(window, every) / (window[1] - window[0]) for window in pairwise(edges)]


def _epochs(run: Path) -> list[Span]:
    """Return the start and end of each epoch, from the log and the metrics of a run.

    The log has local times, so the clock must not change during the run.
    """
    ended = [
        datetime.strptime(time, "%Y-%m-%d %H:%M:%S,%f").timestamp()
        for time in _EPOCH_LINE.findall((run / "train.log").read_text())
    ]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lasted = [row["train_seconds"] + row["test_seconds"] for row in rows]
    return [(end - seconds, end) for end, seconds in zip(ended, lasted, strict=True)]


def _epochs_within(window: Span, epochs: list[Span]) -> float:
    """Count epochs; partial ones count by their share within the window."""
    total = 0.0
    for start, end in epochs:
        overlap = min(end, window[1]) - max(start, window[0])
        total += max(0.0, overlap) / (end - start)
    return total


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Measure the peak memory of the GPU in bytes while the block runs, as a list of one."""
    before, over = torch.cuda.mem_get_info(device)[0], threading.Event()
    taken: list[int] = [0]

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            taken[0] = max(taken[0], before - torch.cuda.mem_get_info(device)[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield taken
    finally:
        over.set()
        watcher.join()
