"""What a sweep costs outside training grows in proportion to its runs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from cifar_exp.cli.command_line import adapted_hydra
from cifar_exp.config.schema import Paths, RunConfig, Training
from cifar_exp.files import write_json
from cifar_exp.reports.records import read_sweep, sweep_id
from cifar_exp.reports.table import as_text, ranked
from cifar_exp.runs.folder import RunFolder
from cifar_exp.sweeps.forecast import PlannedRun, find_prefix_runs
from cifar_exp.sweeps.run_queue import RunQueue
from cifar_exp.sweeps.sweep import Sweep
from tests.conftest import ROOT
from tests.made import make_run


def calls(action: Callable[[], object]) -> int:
    """Return the number of functions, of Python and of C, that an action calls."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(previous)
    return count


def made_sweep(results: Path, count: int) -> Path:
    """Write a sweep of finished runs."""
    folders = [make_run(results, sums=False, seed=seed) for seed in range(count)]
    runs = [{"run_id": folder.run_id, "folder": folder.path.name} for folder in folders]
    folder = results / f"seed-{sweep_id([str(run['run_id']) for run in runs])}"
    folder.mkdir()
    write_json(folder / "sweep.json", {"command": "", "runs": runs, "studies": []})
    return folder


def begin(folder: Path, count: int) -> Callable[[], object]:
    paths = Paths(results=str(folder))
    configs = [RunConfig(seed=seed, paths=paths) for seed in range(count)]
    return lambda: [status for _, run in Sweep(configs).runs if (status := run.status)]


def order(folder: Path, count: int) -> Callable[[], object]:
    """Order runs of which each continues another."""
    paths = Paths(results=str(folder))
    configs = [RunConfig(training=Training(epochs=n + 1), paths=paths) for n in range(count)]
    runs = [PlannedRun(config, RunFolder.of(config), "pending") for config in configs]

    def action() -> None:
        queue = RunQueue(configs, find_prefix_runs(runs))
        while task := queue.next():
            queue.ended(task.run)

    return action


def read(folder: Path, count: int) -> Callable[[], object]:
    sweep = made_sweep(folder, count)
    return lambda: as_text(ranked(list(read_sweep(sweep)[0].values())), width=80)


@pytest.mark.parametrize("part", [begin, order, read])
def test_twice_the_runs_cost_twice_as_much(
    tmp_path: Path, part: Callable[[Path, int], Callable[[], object]]
) -> None:
    part(tmp_path / "first", 2)()  # fills caches
    few, middle, many = (calls(part(tmp_path / str(n), n)) for n in (4, 8, 16))
    assert many - middle < 1.3 * 2 * (middle - few)


def test_the_runs_of_a_sweep_read_the_configuration_files_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_files = []
    load = FileConfigSource.load_config
    monkeypatch.setattr(
        FileConfigSource,
        "load_config",
        lambda source, path: read_files.append(path) or load(source, path),
    )
    with adapted_hydra([]), initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        sweep = loader.load_configuration("config", [], RunMode.MULTIRUN)
        loader.load_sweep_config(sweep, ["seed=0"])
        first = len(read_files)
        for seed in range(1, 4):
            loader.load_sweep_config(sweep, [f"seed={seed}"])
    assert len(read_files) == first
