"""Cost of sweeps of 10, 100 and 1,000 runs outside training, its growth, and peak memory.

    python benchmarks/scale.py

The finished runs are written without training. Writes benchmarks/results/scale.md.
"""

import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from tabulate import tabulate

ROOT = Path(__file__).parents[1]
COUNTS = (10, 100, 1000)
_POLL_SECONDS = 0.05
_TINY = ["data=synthetic", "data.train_size=20", "data.test_size=10", "data.batch_size=20"]
_TINY += ["model=vgg11", "model.width=0.02", "epochs=2", "logger=none"]
# Writes the folders of finished runs. Arguments: the overrides of a sweep, as for train.py.
_MAKE = """
import runpy, sys
from cifar_exp.sweeps import sweep
from tests.made import make_run

def made(configs, *args, **kwargs):
    for config in configs:
        settings = {name: getattr(config, name) for name in type(config).model_fields}
        make_run(sweep.as_path(config.paths.results), **settings)
    return [0.5] * len(configs)

sweep.run_sweep = made
sys.argv[0] = "train.py"
runpy.run_path(ROOT, run_name="__main__")
""".replace("ROOT", repr(str(ROOT / "train.py")))
_LOAD = "from cifar_exp import load_runs; load_runs('multirun_results')"


class Cost(NamedTuple):
    """What a command took: wall and CPU time in seconds, and peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=COUNTS,
        help="numbers of runs, ascending; three for the exponent (default: 10 100 1000)",
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    costs: dict[str, list[Cost]] = {}
    for count in given.counts:
        with tempfile.TemporaryDirectory() as scratch:
            for name, cost in measured(count, Path(scratch)).items():
                costs.setdefault(name, []).append(cost)
                print(f"{count} runs, {name}: {cost}", flush=True)
    text = table(costs, given.counts, load)
    print(text)
    (given.results / "scale.md").write_text(text, "utf-8")


def measured(count: int, folder: Path) -> dict[str, Cost]:
    """Measure all commands with a number of runs, in an empty folder."""
    levels = ",".join(f"{number / 100_000:g}" for number in range(1, count + 1))
    train = str(ROOT / "train.py")
    sweep = ["-m", *_TINY, f"lr={levels}"]
    costs = {"composing a sweep": run([train, *sweep, "--cfg", "job"], folder)}
    run(["-c", _MAKE, *sweep], folder)
    costs["the first report"] = run([train, *sweep], folder)
    costs["a finished sweep repeated"] = run([train, *sweep], folder)
    results = folder / "multirun_results"
    (name,) = (path.name for path in results.iterdir() if (path / "sweep.json").exists())
    for command in (["ls", "--all"], ["table", name], ["report", name]):
        costs[f"`{command[0]}`"] = run(["-m", "cifar_exp", *command], folder)
    costs["`load_runs`"] = run(["-c", _LOAD], folder)
    costs["writing TensorBoard's files again"] = run([train, *sweep, "logger=tensorboard"], folder)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    costs["TensorBoard lists all runs"] = run(
        ["-m", "tensorboard.main", "--logdir=logs", f"--port={port}"],
        folder,
        until=lambda: listed_runs(port) >= count,
    )
    costs["the start of the first run"] = run(
        [train, *sweep, "paths.results=first"],
        folder,
        until=lambda: any(folder.glob("first/runs/*/run.json")),
    )
    return costs


def listed_runs(port: int) -> int:
    """Return the number of runs that TensorBoard has read; 0 before it answers."""
    try:
        with urlopen(f"http://localhost:{port}/data/runs") as response:
            return len(json.load(response))
    except (URLError, ConnectionError):
        return 0


def run(arguments: Sequence[str], folder: Path, until: Callable[[], bool] | None = None) -> Cost:
    """Run Python in a folder.

    Args:
        arguments: of Python.
        folder: working folder.
        until: the command is interrupted once this returns True, and its wall time ends there;
            None: the command ends by itself.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("HYDRA_FULL_ERROR", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if until else None,
        start_new_session=True,
    )
    wall = None
    if until:
        while process.poll() is None and not until():
            time.sleep(_POLL_SECONDS)
        wall = time.perf_counter() - started
        process.send_signal(signal.SIGINT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and until is None:
        raise RuntimeError(f"{' '.join(arguments)[:200]} failed with {process.returncode}")
    wall = wall or time.perf_counter() - started
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def exponent(costs: Sequence[float], counts: Sequence[int]) -> str:
    """Return the growth exponent of what exceeds the first cost: 1 is linear, 2 quadratic."""
    if len(counts) != 3:
        return "not measured"
    (first, middle, last), (n_first, n_middle, n_last) = costs, counts
    if min(middle, last) - first < 0.2 * first:  # a process does not always take the same time
        return "not measurable"
    growth = math.log((last - first) / (middle - first))
    return f"{growth / math.log((n_last - n_first) / (n_middle - n_first)):.1f}"


def table(costs: dict[str, list[Cost]], counts: Sequence[int], load: float) -> str:
    """Return the results as Markdown, a row for each command."""
    header = ["command", *(f"{count:,} runs" for count in counts), "exponent", "peak memory"]
    rows = [
        [
            name,
            *(f"{cost.wall:.1f} s ({cost.cpu:.1f} s)" for cost in found),
            exponent([cost.cpu for cost in found], counts),
            f"{found[-1].memory / 1e6:,.0f} MB",
        ]
        for name, found in costs.items()
    ]
    lines = [
        "# Cost of large sweeps",
        "",
        "`python benchmarks/scale.py`, new processes, once each: wall time, and CPU time of the "
        "command and the processes it waited for in parentheses. The exponent is that of the CPU "
        "time beyond that of the smallest sweep: 1 is linear, 2 quadratic. Peak memory is that of "
        "the largest sweep. The finished runs are written without training.",
        "",
        f"{os.cpu_count()} cores; load average at the start {load:.1f}"
        + (
            ": the machine was busy, so the wall times are too long."
            if load > (os.cpu_count() or 1)
            else "."
        ),
        "",
        tabulate(rows, header, tablefmt="github", disable_numparse=True),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
