"""Section `start`: time to the first step, and the time that each run adds to a sweep."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench import Bench, in_new_process, train_py
from measure import Table, at_most, in_turn, ratios, spread

from cifar_exp.data.settings import Data, ImageFolder, Synthetic
from cifar_exp.runs.folder import RunFolder

_GOAL_COMMAND_SECONDS = 1.0
_GOAL_FIRST_STEP = 1.5
_GOAL_CACHE_SECONDS = 1.0
_GOAL_RUN_SECONDS = 0.3
_HERE = Path(__file__).parent


def tables(bench: Bench) -> Iterator[Table]:
    """Measure new processes of train.py."""
    rows = [*_commands(bench), *_first_steps(bench), *_cached_images(bench), _trivial_runs(bench)]
    explanation = (
        "New processes in turn, after a warm-up of each. The first step of a small run is compared "
        "with a process that imports PyTorch and loads the same images. Cached images are timed "
        "without imports. A run of a sweep: the wall time of the whole command, minus the seconds "
        "of training and testing per worker process, divided by the number of runs."
    )
    raw = [{**row, "values": values} for row, values in rows]
    yield Table("Start", explanation, [row for row, _ in rows], raw)


Row = tuple[dict[str, str], Any]


def _row(what: str, values: list[float], unit: str, goal: float, note: str = "") -> Row:
    row = {
        "what": what,
        "measured": f"{spread(values)} {unit}",
        "n": str(len(values)),
        **at_most(goal, values),
        "note": note,
    }
    return row, values


def _commands(bench: Bench) -> list[Row]:
    folder = bench.scratch / "commands"
    commands = {"--help": ["--help"], "--cfg job": ["--cfg", "job"]}
    actions = {
        name: partial(train_py, *arguments, folder=folder) for name, arguments in commands.items()
    }
    measured = in_turn(actions, bench.times(5))
    return [
        _row(f"train.py {name}", seconds, "s", _GOAL_COMMAND_SECONDS)
        for name, seconds in measured.items()
    ]


def _first_steps(bench: Bench) -> list[Row]:
    """Measure with synthetic images, and with those of the folder if there is one."""
    kinds: dict[str, Data] = {"synthetic": Synthetic(train_size=500, test_size=100, batch_size=64)}
    if bench.folder is not None:
        kinds["the folder's cached"] = ImageFolder(root=str(bench.folder), batch_size=64)
        bench.dataset(kinds["the folder's cached"])
    rows = []
    for name, data in kinds.items():
        folder = bench.scratch / "first"
        arguments = ["experiment=demo", "epochs=1", *bench.overrides(data)]
        actions: dict[str, Callable[[], float]] = {
            "step": partial(_seconds_to_first_step, arguments, folder),
            "least": partial(_seconds_to_images, bench, data, folder),
        }
        measured = in_turn(actions, bench.times(5))
        times = ratios(measured["step"], measured["least"])
        note = f"{spread(measured['step'])} s against {spread(measured['least'])} s"
        row, _ = _row(f"first step, {name} images", times, "times", _GOAL_FIRST_STEP, note)
        rows.append((row, measured))
    return rows


def _seconds_to_first_step(arguments: list[str], folder: Path) -> float:
    started = time.time()
    _, output = in_new_process(str(_HERE / "first_step.py"), *arguments, folder=folder)
    return float(output.rpartition("first step: ")[2]) - started


def _seconds_to_images(bench: Bench, data: Data, folder: Path) -> float:
    started = time.time()
    return float(_load(bench, data, folder)["time"]) - started


def _load(bench: Bench, data: Data, folder: Path) -> dict[str, float]:
    config = bench.config(data).model_dump_json()
    _, output = in_new_process(str(_HERE / "load_images.py"), config, folder=folder)
    loaded: dict[str, float] = json.loads(output.splitlines()[-1])
    return loaded


def _cached_images(bench: Bench) -> list[Row]:
    if bench.folder is None:
        return []
    data, folder = ImageFolder(root=str(bench.folder), batch_size=64), bench.scratch / "first"
    bench.dataset(data)  # decodes them if necessary
    loaded = [_load(bench, data, folder) for _ in range(bench.times(5))]
    seconds = [once["seconds"] for once in loaded]
    return [_row(f"{loaded[0]['images']:,} cached images", seconds, "s", _GOAL_CACHE_SECONDS)]


def _trivial_runs(bench: Bench) -> Row:
    runs, folder = bench.times(100, 2), bench.scratch / "trivial"
    data = Synthetic(train_size=20, test_size=10, batch_size=20)
    on_gpu = bench.device.type == "cuda"
    wall_seconds = train_py(
        "-m",
        # on a GPU the seconds of runs at once would overlap
        *["hydra.launcher.runs_per_device=1"] * on_gpu,
        *bench.overrides(data),
        "model=vgg11",
        "model.width=0.02",
        "epochs=1",
        f"seed=range({runs})",
        folder=folder,
    )
    trained = [RunFolder(file.parent).results for file in folder.glob("*/runs/*/run.json")]
    training_seconds = sum(results.seconds for results in trained)
    workers = min(torch.cuda.device_count() if on_gpu else torch.get_num_threads(), runs)
    seconds = (wall_seconds - training_seconds / workers) / len(trained)
    note = (
        f"{wall_seconds:.1f} s in all, {training_seconds:.1f} s of training and testing "
        f"in {workers} workers"
    )
    return _row(f"a run in a sweep of {runs}", [seconds], "s", _GOAL_RUN_SECONDS, note)
