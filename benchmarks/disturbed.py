"""A sweep that is interrupted and resumed, and one next to busy processes, against one alone.

    python benchmarks/disturbed.py

takes about eight minutes on two idle cores and writes benchmarks/results/disturbed.md.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from bench import ROOT
from measure import Table, facts, in_turn, number, ratios, spread
from threads import busy_processes

_BUSY_PROCESSES = 2
_WIDTH = 0.125
_EXPLANATION = (
    "Wall time of `python train.py -m ... seed=range({runs})`: VGG16 at width {width:g}, {epochs} "
    "epochs of {train:,} images, each tested on {test:,} after each epoch. Measured in turn. "
    "Interrupted: SIGINT after half of the time of the first sweep, and the same command again; "
    "both times together. Busy: next to {busy} processes that each occupy a core."
)


def main() -> None:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=2, help="measurements of each")
    parser.add_argument("--quick", action="store_true", help="a test: the numbers are meaningless")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    sizes = {"runs": 8, "epochs": 3, "train": 4000, "test": 1000, "width": _WIDTH}
    if given.quick:
        sizes |= {"runs": 2, "epochs": 2, "train": 640, "test": 64, "width": 1 / 16}
    command = [
        *(sys.executable, str(ROOT / "train.py"), "-m", "data=synthetic", "device=cpu"),
        *(f"data.train_size={sizes['train']}", f"data.test_size={sizes['test']}"),
        *(
            f"model.width={sizes['width']}",
            f"epochs={sizes['epochs']}",
            f"seed=range({sizes['runs']})",
        ),
    ]
    load = os.getloadavg()[0]
    alone = sweep_seconds(command)  # warm-up, and the time of the interruption
    actions: dict[str, Callable[[], float]] = {
        "alone": partial(sweep_seconds, command),
        "interrupted and resumed": partial(sweep_seconds, command, interrupted_after=alone / 2),
        "next to busy processes": partial(busy_seconds, command),
    }
    measured = in_turn(actions, given.repeats, warm_up=False)
    rows = [
        {
            "sweep": name,
            "seconds": spread(seconds),
            "times as long": spread(ratios(seconds, measured["alone"])),
            "n": str(len(seconds)),
        }
        for name, seconds in measured.items()
    ]
    explanation = _EXPLANATION.format(busy=_BUSY_PROCESSES, **sizes)
    known = facts(torch.device("cpu")) | {"load average at the start": number(load)}
    lines = ["# Disturbed sweeps", "", *(f"- {name}: {text}" for name, text in known.items()), ""]
    text = "\n".join(
        [*lines, Table("Disturbed and undisturbed", explanation, rows, []).as_markdown()]
    )
    print(text)
    name = "disturbed-quick.md" if given.quick else "disturbed.md"
    (given.results / name).write_text(text, encoding="utf-8")


def sweep_seconds(command: list[str], interrupted_after: float | None = None) -> float:
    """Train a sweep in a new folder and return its seconds.

    Args:
        command: the command.
        interrupted_after: seconds after which the command is interrupted and started again.
    """
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if interrupted_after is not None:
            process = _start(command, folder)
            time.sleep(interrupted_after)
            process.send_signal(signal.SIGINT)
            process.wait()
        if _start(command, folder).wait():
            raise RuntimeError(f"{' '.join(command)} failed")
        return time.perf_counter() - started


def busy_seconds(command: list[str]) -> float:
    """Train a sweep next to busy processes and return its seconds."""
    with busy_processes(_BUSY_PROCESSES):
        return sweep_seconds(command)


def _start(command: list[str], folder: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
