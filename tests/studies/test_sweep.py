"""Sweeps through the command line."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from tests.conftest import ROOT, TINY, CommandLine, computed, read_state


def sweep_folder(train: CommandLine) -> Path:
    (folder,) = (p for p in train.runs.parent.iterdir() if (p / "sweep.json").exists())
    return folder


def results(train: CommandLine) -> list[dict[str, str]]:
    with (sweep_folder(train) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_trains_every_point_once_and_ends_with_a_table(train: CommandLine) -> None:
    said = train("-m", *TINY, "optimizer.lr=0.1,0.01", "seed=0,1")
    assert "sweep of 4 runs (0 finished before)" in said
    assert "[4/4]" in said
    assert len(list(train.runs.iterdir())) == 4
    rows = results(train)
    assert {(row["optimizer.lr"], row["seed"]) for row in rows} == {
        ("0.1", "0"), ("0.1", "1"), ("0.01", "0"), ("0.01", "1"),
    }  # fmt: skip
    assert {row["n"] for row in rows} == {"2"}
    listed = json.loads((sweep_folder(train) / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in listed] == ["complete"] * 4

    again = subprocess.run(
        [sys.executable, "-m", "cifar_exp", "table", sweep_folder(train)],
        cwd=train.folder,
        env=train.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert again.strip() in said

    # a second sweep takes the runs that it shares with the first from there
    said = train("-m", *TINY, "lr=0.1,0.001")
    assert "sweep of 2 runs (1 finished before)" in said
    assert len(list(train.runs.iterdir())) == 5


def test_levels_words_and_globs_make_the_same_runs_as_numbers(train: CommandLine) -> None:
    train("-m", *TINY, "epochs=1", "lr=glob(*)")
    said = train("-m", *TINY, "epochs=1", "lr=0.1,0.01,0.001,0.0001")
    assert "sweep of 4 runs (4 finished before)" in said
    said = train("-m", *TINY, "epochs=1", "lr=high,too_high", "batch_size=64")
    assert "sweep of 2 runs (2 finished before)" in said


def test_a_wrong_point_is_found_before_the_first_is_trained(train: CommandLine) -> None:
    said = train("-m", *TINY, "optimizer.lr=0.1,0.01,-1", status=1)
    assert "optimizer.lr: expected a number greater than 0, got -1" in said
    assert not train.runs.exists()


def test_a_run_that_fails_is_told_at_once_and_the_others_go_on(train: CommandLine) -> None:
    for root in ("damaged", "good"):
        for name in ("train/a", "train/b", "test/a", "test/b"):
            (train.folder / root / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(train.folder / root / name / "1.png")
    (train.folder / "damaged" / "test" / "b" / "1.png").write_bytes(b"")
    settings = ("model=vgg11", "model.width=0.0625", "epochs=1", "batch_size=2", "logger=none")
    said = train("-m", "data=image_folder", "data.root=damaged,good", *settings, status=1)
    assert "[1/2] root=" in said
    assert "failed: cannot read the image" in said
    assert said.index("failed: ") < said.index("[2/2]")
    assert "1 of 2 runs failed" in said
    assert [row["status"] for row in results(train)] == ["complete", "failed"]


def test_two_equal_sweeps_at_once_train_every_run_once(train: CommandLine) -> None:
    command = ("-m", *TINY, "data.train_size=640", "seed=0,1", "logger=none")
    both = [train.start(*command) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    assert len(list(train.runs.iterdir())) == 2
    for run in train.runs.iterdir():
        assert [row["epoch"] for row in computed(run)] == [1, 2, 3]
        assert (run / "train.log").read_text().count("complete after") == 1


def test_an_interrupted_sweep_is_finished_by_the_same_command(train: CommandLine) -> None:
    command = ("-m", *TINY, "data.train_size=640", "seed=0,1,2")
    process = train.start(*command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(train.runs.glob("*/model.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert "the same command goes on where this one stopped" in err
    assert "pending" in out or "interrupted" in out  # the table shows what is left
    before = {run: computed(run) for run in train.runs.glob("*") if (run / "model.json").exists()}

    said = train(*command)
    assert f"{len(before)} finished before" in said
    assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}
    assert all(computed(run) == metrics for run, metrics in before.items())


def test_a_diverged_run_is_a_result_and_no_failure(train: CommandLine) -> None:
    train("-m", *TINY, "optimizer=sgd", "lr=0.01,1e9")
    rows = results(train)
    assert [row["status"] for row in rows] == ["complete", "diverged"]


def test_the_settings_of_all_runs_are_kept_before_the_first_is_trained(train: CommandLine) -> None:
    process = train.start("-m", *TINY, "seed=0,1,2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(train.runs.glob("*/run.json")):
        time.sleep(0.01)
    assert len(list(train.runs.glob("*/config.yaml"))) == 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifar_exp", "table", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "expected the folder of a sweep" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
