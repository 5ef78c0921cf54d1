"""Sweeps through the command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cifar_exp.sweeps.sweep import Sweep
from tests.conftest import ROOT, TINY, CommandLine, computed, event_folder, read_state
from tests.made import make_run
from tests.reliability.faults import SHORT, TWO_AT_ONCE, end, held

pytestmark = pytest.mark.integration


def sweep_folder(train: CommandLine) -> Path:
    (folder,) = (p for p in train.runs.parent.iterdir() if (p / "sweep.json").exists())
    return folder


def results(train: CommandLine) -> list[dict[str, str]]:
    with (sweep_folder(train) / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_trains_each_combination_once_and_prints_a_table(train: CommandLine) -> None:
    output = train("-m", *TINY, "optimizer.lr=0.1,0.01", "seed=0,1")
    assert "sweep of 4 runs (0 finished before)" in output
    assert "[4/4]" in output
    assert len(list(train.runs.iterdir())) == 4
    rows = results(train)
    assert {(row["optimizer.lr"], row["seed"]) for row in rows} == {
        ("0.1", "0"), ("0.1", "1"), ("0.01", "0"), ("0.01", "1"),
    }  # fmt: skip
    assert {row["n"] for row in rows} == {"2"}
    listed = json.loads((sweep_folder(train) / "sweep.json").read_text())["runs"]
    assert {run["folder"] for run in listed} == {folder.name for folder in train.runs.iterdir()}

    assert train.cifar_exp("table", str(sweep_folder(train))).strip() in output


@pytest.mark.slow
def test_level_names_and_globs_give_the_same_runs_as_numbers(train: CommandLine) -> None:
    train("-m", *TINY, "epochs=1", "lr=glob(*)")
    output = train("-m", *TINY, "epochs=1", "lr=0.1,0.01,0.001,0.0001")
    assert "sweep of 4 runs (4 finished before)" in output
    output = train("-m", *TINY, "epochs=1", "lr=high,too_high", "batch_size=64")
    assert "sweep of 2 runs (2 finished before)" in output


def test_an_invalid_combination_is_reported_before_training(train: CommandLine) -> None:
    output = train("-m", *TINY, "optimizer.lr=0.1,0.01,-1", status=1)
    assert "optimizer.lr: expected a number greater than 0, got -1" in output
    assert not train.runs.exists()


def test_a_failed_run_is_reported_immediately_and_the_others_continue(train: CommandLine) -> None:
    for root in ("damaged", "good"):
        for name in ("train/a", "train/b", "test/a", "test/b"):
            (train.folder / root / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(train.folder / root / name / "1.png")
    (train.folder / "damaged" / "test" / "b" / "1.png").write_bytes(b"")
    settings = ("model=vgg11", "model.width=0.0625", "epochs=1", "batch_size=2", "logger=none")
    said = train("-m", "data=image_folder", "data.root=damaged,good", *settings, status=1)
    assert "[1/2] root=" in said
    assert ": cannot read the image: " in said
    assert said.index("failed: ") < said.index("[2/2]")
    assert "1 of 2 runs failed" in said
    assert [row["status"] for row in results(train)] == ["complete", "failed"]


@pytest.mark.slow
def test_runs_whose_files_were_edited_fail_and_the_others_are_trained(
    train: CommandLine,
) -> None:
    short = [word for word in TINY if not word.startswith("epochs")] + ["epochs=1"]
    train(*short, "seed=0")
    edited = train.only_run
    metrics = edited / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 0.9'))
    changed = metrics.read_text()
    train(*short, "seed=1")
    (cut,) = (run for run in train.runs.iterdir() if run != edited)
    (cut / "config.yaml").write_text((cut / "config.yaml").read_text()[:100])
    output = train("-m", *short, "seed=0,1,2", status=1)
    assert "sweep of 3 runs (0 finished before)" in output
    assert "metrics.jsonl does not match its sha256 in run.json" in output
    assert f"{cut.name}/config.yaml: expected the settings of a run" in output
    assert "2 of 3 runs failed" in output
    assert metrics.read_text() == changed  # the edited file is kept
    assert sorted(row["status"] for row in results(train)) == ["complete", "damaged"]


def test_the_settings_of_all_runs_are_saved_before_training(train: CommandLine) -> None:
    with held(train, "-m", *SHORT, "epochs=1", "seed=0,1,2", step=3) as it:
        assert len(list(train.runs.glob("*/config.yaml"))) == 3
        assert len(list(train.runs.glob("*/train.log"))) == 1
        end(it.process, group=True)


def test_concurrent_runs_equal_single_runs_bit_for_bit(new_folder) -> None:
    together, alone = new_folder("together"), new_folder("alone")
    settings = (*TINY, "dropout=0.5", "data.augment=crop_flip")
    together("-m", *settings, "seed=0,1", TWO_AT_ONCE)
    for seed in range(2):
        alone(*settings, f"seed={seed}")
    for run in alone.runs.iterdir():
        assert computed(together.runs / run.name) == computed(run)
        weights = [load_file(r / "model.safetensors") for r in (run, together.runs / run.name)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_two_runs_train_at_the_same_time(train: CommandLine) -> None:
    with held(train, "-m", *SHORT, "epochs=1", "seed=0,1", TWO_AT_ONCE, step=3, processes=2) as it:
        assert len(list(train.runs.glob("*/train.log"))) == 2
        end(it.process, group=True)


@pytest.mark.slow
def test_a_shorter_run_reuses_the_epochs_of_a_longer_one(new_folder) -> None:
    together, alone = new_folder("together"), new_folder("alone")
    output = together("-m", *TINY, "epochs=2,4", "dropout=0.5")
    assert "[2/2]" in output
    alone(*TINY, "epochs=2", "dropout=0.5")
    short = together.runs / alone.only_run.name
    assert computed(short) == computed(alone.only_run)
    weights = [load_file(r / "model.safetensors") for r in (short, alone.only_run)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    (long,) = (run for run in together.runs.iterdir() if run != short)
    assert read_state(short)["began_as"] == read_state(long)["run_id"]
    assert "resumed after epoch 2" in (short / "train.log").read_text()
    events = EventAccumulator(str(event_folder(together.folder / "logs", short)))
    events.Reload()
    assert [scalar.step for scalar in events.Scalars("loss/train")] == [1, 2]


def test_the_process_of_a_sweep_does_not_import_pytorch() -> None:
    code = "import sys, cifar_exp.sweeps.sweep; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_sweep_whose_folder_is_deleted_during_training_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep([make_run(tmp_path).read_config()])

    def train(*_: object) -> tuple[int, int]:
        sweep.folder.mkdir()
        shutil.rmtree(sweep.folder)
        return 0, 0

    monkeypatch.setattr(Sweep, "_train_unfinished", train)
    sweep.run(None)
    assert {"sweep.json", "results.csv", "report.html"} <= set(os.listdir(sweep.folder))


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cifar_exp", "table", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "expected the folder of a sweep" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
