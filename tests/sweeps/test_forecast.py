"""What a sweep will train, and what that costs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.config.study import Study
from cifar_exp.data.settings import Contents, ImageFolder, Synthetic
from cifar_exp.files import write_json
from cifar_exp.optimizers import Adam
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.needs import Needs
from cifar_exp.schedulers import Constant, Cosine
from cifar_exp.sweeps import forecast
from cifar_exp.sweeps.allocation import Allocation
from cifar_exp.sweeps.forecast import Forecast, PlannedRun, find_prefix_runs, plan_runs
from cifar_exp.sweeps.messages import Checked
from cifar_exp.sweeps.run_times import part_after_epochs
from cifar_exp.sweeps.speeds import Duration, EpochTime, Speeds, duration, find_speeds
from cifar_exp.sweeps.until_settled import possible_runs
from tests.made import make_run

HARDWARE = {"cpu": "a processor", "cores": 2, "gpus": []}
PROVENANCE = {"commit": None, "python": "3.12", "versions": {}, "hardware": HARDWARE}
ON_CPU = (Allocation(None, threads=1, concurrent=1),) * 2
COMPUTE = {"device": "cpu", "precision": "fp32", "threads": 1}


def a_run(results: Path, lr: float = 0.001, epochs: int = 4, **settings: Any) -> RunConfig:
    return RunConfig(
        optimizer=Adam(lr=lr),
        data=Synthetic(train_size=640, test_size=100, batch_size=64),
        scheduler=Constant(),
        training=Training(epochs=epochs),
        paths=Paths(results=str(results)),
        logger=Logger(tensorboard=False),
        **settings,
    )


def finished(results: Path, seconds: float, **changes: Any) -> RunFolder:
    """Write a complete run of two epochs. Args: seconds: of each epoch."""
    config = a_run(results, epochs=2)
    parts = {name: getattr(config, name) for name in ("optimizer", "data", "scheduler")}
    folder = make_run(results, logger=Logger(tensorboard=False), **parts | changes)
    rows = [row | {"train_seconds": seconds, "test_seconds": 0.0} for row in folder.read_metrics()]
    folder.write_metrics(rows)
    state = folder.read_state() | {"compute": COMPUTE, "provenance": PROVENANCE, "started": "now"}
    del state["sha256"]
    write_json(folder.path / "run.json", state)
    return folder


def add_checkpoint(folder: RunFolder) -> None:
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "step-20.pt").touch()


def checked(runs: int, threads: int = 1) -> Checked:
    contents = (Contents(None, 10, 640, 32),) * runs
    return Checked(
        None,
        (Allocation(None, threads, 1),) * 2,
        Needs(0, 5_000_000, contents),
        (threads,) * runs,
        HARDWARE,
    )


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunConfig]]:
    """Replace the measurement: an epoch takes as many seconds as a batch has images."""
    runs: list[RunConfig] = []

    def measure(config: RunConfig, *_: object) -> EpochTime:
        runs.append(config)
        return EpochTime.around(config.data.batch_size, 0.3, memory=10**9)

    monkeypatch.setattr("cifar_exp.sweeps.speeds._measured", measure)
    return runs


def test_each_run_starts_as_its_files_say(tmp_path: Path) -> None:
    done = finished(tmp_path, 1.0)
    configs = [
        done.read_config(),
        a_run(tmp_path, epochs=5),  # continues no run, which has no checkpoint
        a_run(tmp_path, lr=0.1, epochs=4),
        a_run(tmp_path, lr=0.1, epochs=9),
    ]
    before = sorted(tmp_path.rglob("*"))
    runs = plan_runs(list(zip(configs, RunFolder.of_all(configs), strict=True)))
    assert [run.start for run in runs] == ["finished before", "new", "taken from epochs=9", "new"]
    assert [run.share for run in runs] == [1, 0, 1, 0]
    assert sorted(tmp_path.rglob("*")) == before

    add_checkpoint(done)
    (continuing,) = plan_runs([(configs[1], RunFolder.of(configs[1]))])
    assert (continuing.start, continuing.epochs_before) == ("continues epochs=2", 2)


def test_a_run_that_a_longer_one_has_handed_over_has_nothing_to_train(tmp_path: Path) -> None:
    done = finished(tmp_path, 1.0)
    long, short = done.read_config(), a_run(tmp_path, epochs=1)
    handed = RunFolder.of(short)
    handed.claim(short)
    handed.write_state({"status": "pending", "began_as": done.run_id})
    _, run = plan_runs([(long, done), (short, handed)])
    assert (run.start, run.share) == ("taken from epochs=2", 1)


def test_a_plan_without_times_says_why(tmp_path: Path) -> None:
    runs = plan_runs([(a_run(tmp_path), RunFolder.of(a_run(tmp_path)))])
    shown = str(
        Forecast(
            runs, [], Needs(0, 0, (Contents(None, 10, 640, 32),)), (Allocation(None, 1, 1),), None
        )
    )
    assert "time:   not known; a few steps took longer than 12 s\n" in shown


def test_an_interrupted_run_trains_the_remaining_epochs(tmp_path: Path) -> None:
    folder = finished(tmp_path, 1.0)
    write_json(folder.path / "run.json", {"status": "running"})
    config = folder.read_config()
    (run,) = plan_runs([(config, folder)])
    assert (run.start, run.share) == ("cannot be resumed", 0)  # without a checkpoint
    shown = str(Forecast([run], [], Needs(), (), None))
    assert shown.startswith("1 run, 0 to train, 1 cannot be resumed; resume=fresh restarts it\n")
    assert find_prefix_runs([run, PlannedRun(a_run(tmp_path, epochs=1), folder, "pending")]) == {}
    (run,) = plan_runs([(config.model_copy(update={"resume": "fresh"}), folder)])
    assert (run.start, run.share) == ("restarts", 0)
    add_checkpoint(folder)
    (run,) = plan_runs([(config, folder)])
    assert (run.start, run.share) == ("interrupted after epoch 2", 1)


def test_a_run_is_repeated_only_if_it_was_trained(tmp_path: Path) -> None:
    done, new = finished(tmp_path, 1.0).read_config(), a_run(tmp_path, lr=0.5)
    runs = [config.model_copy(update={"rerun": True}) for config in (done, new)]
    planned = plan_runs(list(zip(runs, RunFolder.of_all(runs), strict=True)))
    assert [run.start for run in planned] == ["repeated", "new"]


def prefix_runs(*epochs: int, scheduler: Any = None) -> dict[int, list[int]]:
    configs = [
        RunConfig(training=Training(epochs=n), scheduler=scheduler or Constant()) for n in epochs
    ]
    return find_prefix_runs([PlannedRun(it, RunFolder.of(it), "pending") for it in configs])


def test_shorter_runs_are_taken_from_the_longest() -> None:
    assert prefix_runs(5, 10, 20) == {2: [1, 0]}
    assert prefix_runs(10, 100, scheduler=Cosine()) == {}  # its rates depend on the length


@pytest.mark.parametrize("count", [50, 100])
def test_each_run_is_compared_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(forecast, "prefix_id", lambda config: compared.append(config) or "same")
    assert prefix_runs(*range(1, count + 1)) == {count - 1: list(reversed(range(count - 1)))}
    assert len(compared) == count


def test_a_shorter_run_is_not_taken_from_a_run_that_is_past_its_end(tmp_path: Path) -> None:
    """An interrupted run of 100 epochs has trained two of them."""
    long = a_run(tmp_path, epochs=100)
    folder = RunFolder.of(long)
    folder.claim(long)
    folder.write_metrics(finished(tmp_path, 1.0, seed=1).read_metrics())
    add_checkpoint(folder)
    write_json(folder.path / "run.json", {"status": "running"})
    configs = [long, *(a_run(tmp_path, epochs=n) for n in (1, 2, 3))]
    runs = list(zip(configs, RunFolder.of_all(configs), strict=True))
    starts = ["interrupted after epoch 2", "taken from epochs=2", "new", "taken from epochs=100"]
    assert [run.start for run in plan_runs(runs)] == starts
    # it saved the checkpoint of epoch 1 as it passed
    runs[1][1].claim(configs[1])
    write_json(runs[1][1].path / "run.json", {"status": "pending", "began_as": folder.run_id})
    assert plan_runs(runs)[1].start == "taken from epochs=100"


def test_finished_runs_of_the_same_shape_give_the_time(
    tmp_path: Path, measured: list[RunConfig]
) -> None:
    for seed, seconds in enumerate((2.0, 3.0, 10.0)):
        finished(tmp_path, seconds, seed=seed)
    speeds = find_speeds([a_run(tmp_path, lr=0.5), a_run(tmp_path, lr=0.1)], checked(2))
    assert speeds.epoch(a_run(tmp_path)) == EpochTime(2.0, 3.0, 10.0, 0)
    assert speeds.source == "3 finished runs of the same shape"
    assert not measured


@pytest.mark.parametrize(
    "key", ["hardware", "earlier hardware", "threads", "one thread", "processes", "seconds"]
)
def test_runs_on_other_resources_are_not_used(
    tmp_path: Path, measured: list[RunConfig], key: str
) -> None:
    folder = finished(tmp_path, 0.0 if key == "seconds" else 1.0)
    state = folder.read_state()
    if key == "hardware":
        state["provenance"] = PROVENANCE | {"hardware": HARDWARE | {"cpu": "another"}}
    if key == "earlier hardware":  # resumed on this one
        part = {"provenance": PROVENANCE | {"hardware": HARDWARE | {"cpu": "another"}}}
        state["earlier"] = [part | {"compute": COMPUTE}]
    if key == "threads":
        state["compute"] = COMPUTE | {"threads": 8}
    if key == "processes":
        state["compute"] = COMPUTE | {"processes": 2}
    write_json(folder.path / "run.json", state)
    config, threads = a_run(tmp_path), 16 if key == "one thread" else 1
    assert find_speeds([config], checked(1, threads)).epoch(config).expected == 64
    assert measured == [config]


def test_finished_runs_on_other_images_are_not_used(
    tmp_path: Path, measured: list[RunConfig]
) -> None:
    def of_images(name: str) -> ImageFolder:
        return ImageFolder(root=str(tmp_path / name), batch_size=64)

    finished(tmp_path, 2.0, data=of_images("small"))
    small, big = (
        a_run(tmp_path).model_copy(update={"data": of_images(name)}) for name in ("small", "big")
    )
    speeds = find_speeds([small, big], checked(2))
    assert speeds.epoch(small).expected == 2
    assert measured == [big]
    sizes = (Contents(None, 10, 640, 32), Contents(None, 10, 6400, 32))
    runs = plan_runs(list(zip((small, big), RunFolder.of_all([small, big]), strict=True)))
    text = str(Forecast(runs, ["data.root"], Needs(0, 0, sizes), ON_CPU, None))
    assert "steps:  440 in total" in text


def test_the_largest_and_the_smallest_run_are_measured(
    tmp_path: Path, measured: list[RunConfig]
) -> None:
    def of_batch(size: int) -> RunConfig:
        data = Synthetic(train_size=640, test_size=100, batch_size=size)
        return a_run(tmp_path).model_copy(update={"data": data})

    configs = [of_batch(size) for size in (64, 16, 4, 32)]
    speeds = find_speeds(configs, checked(4))
    assert [config.data.batch_size for config in measured] == [4, 64]
    assert speeds.source == "a few measured steps of the largest and the smallest run"
    between = speeds.epoch(configs[1])
    assert between.high > 1.5 * between.expected  # less certain
    assert speeds.epoch(configs[0]).expected == 64


def test_the_largest_of_several_image_folders_is_measured_and_the_others_have_their_sizes(
    tmp_path: Path, measured: list[RunConfig]
) -> None:
    sizes = {"middle": 5000, "big": 50_000, "small": 500}
    folders = [ImageFolder(root=str(tmp_path / name), batch_size=50) for name in sizes]
    middle, big, small = configs = [
        a_run(tmp_path).model_copy(update={"data": data}) for data in folders
    ]
    contents = tuple(Contents(None, 10, size, 32) for size in sizes.values())
    needs = Needs(0, 0, contents)
    speeds = find_speeds(configs, Checked(None, ON_CPU, needs, (1, 1, 1), HARDWARE))
    assert measured == [big, small]
    # the small one, which is the most similar, took 50 s
    assert speeds.epoch(middle).expected == pytest.approx(10 * 50, rel=0.01)


def test_the_time_is_that_of_the_longest_worker(tmp_path: Path) -> None:
    speeds = Speeds(on_gpu=False)
    speeds.add(a_run(tmp_path), EpochTime(9.0, 10.0, 12.0))
    three = [a_run(tmp_path, lr=lr) for lr in (0.1, 0.2, 0.3)]
    time = duration(three, speeds, at_once=2)
    # predictions of 100 images, after four epochs of 640 training and 100 evaluated ones
    after = part_after_epochs(three[0])
    assert time.expected == pytest.approx(10 + 2 * (40 + 1 + 40 * after))
    assert 0 < after < 0.05
    assert time.low < time.expected < time.high
    assert duration(three, speeds, 2, [1.0] * 3).expected < 20


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((20, 25, 33), "25 s (20 to 33)"),
        ((1200, 1500, 1980), "25 min (20 to 33)"),
        ((9000, 12_600, 18_000), "3.5 h (2.5 to 5.0)"),
    ],
)
def test_a_duration_has_its_interval(seconds: tuple[int, int, int], text: str) -> None:
    assert str(Duration(*seconds)) == text


def test_the_answer_is_first_and_the_text_fits_80_columns(tmp_path: Path) -> None:
    done = finished(tmp_path, 1.0)
    configs = [done.read_config(), *(a_run(tmp_path, lr=0.1, seed=n, epochs=2) for n in (0, 1, 2))]
    runs = plan_runs(list(zip(configs, RunFolder.of_all(configs), strict=True)))
    speeds = find_speeds(configs[1:], checked(3))
    needs = checked(3).needs
    text = str(Forecast(runs, ["optimizer.lr"], needs, ON_CPU, speeds))
    lines = text.splitlines()
    assert lines[0].startswith("4 runs, 3 to train; about ")
    assert lines[0].endswith("5 MB, 2 at once")
    assert any(line.split()[:4] == ["0.1", "new", "0", "to"] for line in lines)
    assert any("finished before" in line for line in lines)
    assert "steps:  60 in total" in lines
    assert lines[-1] == "Nothing was trained or written."
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("concurrent", "runs", "words", "memory"),
    [
        (4, 8, "8 at once", "8.0 GB of the GPUs"),
        (4, 3, "3 at once", "3.0 GB of the GPUs"),
        (None, 8, "as many at once as is fastest", "1.0 GB of the GPUs for each run"),
    ],
)
def test_a_plan_has_the_number_of_runs_on_all_gpus(
    tmp_path: Path, concurrent: int | None, runs: int, words: str, memory: str
) -> None:
    on_gpus = [Allocation(gpu, threads=1, concurrent=concurrent) for gpu in (0, 1)]
    configs = [a_run(tmp_path, seed=seed) for seed in range(runs)]
    planned = plan_runs(list(zip(configs, RunFolder.of_all(configs), strict=True)))
    speeds = Speeds(on_gpu=True)
    speeds.add(configs[0], EpochTime(9.0, 10.0, 12.0, memory=10**9))
    needs = checked(runs).needs
    lines = str(Forecast(planned, [], needs, on_gpus, speeds)).splitlines()
    assert lines[0].endswith(words)
    assert f"memory: about {memory}" in lines


def test_many_varied_settings_share_a_column_with_what_is_unusual(tmp_path: Path) -> None:
    usual = a_run(tmp_path)
    settings = ({}, {"seed": 1}, {"lr": 0.1}, {"epochs": 8})
    configs = [a_run(tmp_path, **changes) for changes in settings]
    other = usual.data.model_copy(update={"batch_size": 32})
    configs.append(usual.model_copy(update={"data": other}))
    configs.append(usual.model_copy(update={"model": usual.model.model_copy(update={"width": 2})}))
    varied = ["optimizer.lr", "training.epochs", "data.batch_size", "model.width"]
    runs = plan_runs(list(zip(configs, RunFolder.of_all(configs), strict=True)))
    lines = str(Forecast(runs, varied, checked(6).needs, ON_CPU, None)).splitlines()
    cells = {line.split()[0] for line in lines[4 : lines.index("", 4)]}
    assert cells == {"usual", "lr=0.1", "epochs=8", "batch_size=32", "width=2.0"}
    assert "usual:  lr=0.001, epochs=4, batch_size=64, width=1.0" in lines


def test_a_study_that_adds_seeds_may_add_them_at_the_compared_levels(tmp_path: Path) -> None:
    study = Study(
        name="s",
        title="S",
        question="?",
        vary={"optimizer.lr": (0.1, 0.2, 0.3)},
        add_seeds=True,
        max_seeds=5,
        claims=(
            {
                "says": "It is lower.",
                "metric": "final_train_loss",
                "expects": "lower",
                "at": 0.1,
                "than": 0.3,
            },
        ),
    )
    runs = [a_run(tmp_path, lr=lr, seed=seed) for lr in (0.1, 0.2, 0.3) for seed in range(3)]
    added = {(run.optimizer.lr, run.seed) for run in possible_runs(study, runs)}
    assert added == {(lr, seed) for lr in (0.1, 0.3) for seed in (3, 4)}
