"""Sweeps whose runs are jobs of another launcher: the same runs, table and report.

Hydra's basic launcher trains in the sweep's own process; submitit's local executor starts
processes that share nothing with the sweep but the folder, as those of a cluster do.
"""

import os
import signal
import stat
from collections.abc import Callable

import pytest
import yaml

from tests.conftest import ROOT, TINY, CommandLine, computed, read_state
from tests.reliability.faults import SHORT, assert_same_run, assert_same_runs, held, times_started
from tests.reliability.hold import LONGEST_WAIT_SECONDS, wait_for

BASIC = "hydra/launcher=basic"
LOCAL = "hydra/launcher=submitit_local"
SWEEP = ("-m", *TINY, "epochs=1", "seed=0,1", "logger=none")
pytestmark = pytest.mark.integration


@pytest.fixture
def train(train: CommandLine) -> CommandLine:
    # jobs are new processes, which find the package where it is installed
    train.environment["PYTHONPATH"] = str(ROOT)
    train._usual["PYTHONPATH"] = str(ROOT)
    return train


def test_the_runs_are_those_of_the_usual_launcher(
    new_folder: Callable[[str], CommandLine],
) -> None:
    jobs, usual = new_folder("jobs"), new_folder("usual")
    jobs(*SWEEP, BASIC)
    usual(*SWEEP, "hydra.launcher.runs_per_device=1")
    assert_same_runs(jobs, usual)
    assert "sweep of 2 runs (2 finished before)" in jobs(*SWEEP)


def test_a_study_gives_its_report(train: CommandLine) -> None:
    (train.folder / "study").mkdir()
    study = {
        "name": "mine",
        "title": "My study",
        "question": "Does it?",
        "vary": {"lr": [0.001, 0.01]},
        "seeds": [0],
        "claims": [{"says": "It rises.", "metric": "final_train_loss", "expects": "rises"}],
    }
    (train.folder / "study" / "mine.yaml").write_text(yaml.safe_dump(study))
    said = train("--config-dir", str(train.folder), "study=mine", *TINY, "epochs=1", BASIC)
    assert "sweep of 2 runs (0 finished before)" in said
    (report,) = train.folder.glob("multirun_results/mine-*/report.md")
    assert "It rises." in report.read_text()


def test_a_mistake_in_the_last_run_is_found_before_the_first_is_submitted(
    train: CommandLine,
) -> None:
    said = train("-m", *TINY, "epochs=1,0", BASIC, status=1)
    assert "training.epochs: expected a number greater than or equal to 1, got 0" in said
    assert not train.runs.exists()


def test_failed_runs_are_listed_with_their_reasons(train: CommandLine) -> None:
    images = train.folder / "photos"
    for split in ("train", "test"):
        (images / split / "a").mkdir(parents=True)
        (images / split / "b").mkdir()
        for name in ("a/1.png", "b/1.png"):
            (images / split / name).write_text("no image")
    data = ("data=image_folder", "data.root=photos", "batch_size=2", "seed=0,1", "device=cpu")
    said = train("-m", *data, "model=vgg11", "epochs=1", BASIC, status=1)
    for seed in (0, 1):
        assert f"seed={seed}: failed: " in said
    assert "2 of 2 runs failed; the same command tries again" in said
    for run in train.runs.iterdir():
        state = read_state(run)
        assert state["status"] == "failed"
        assert "1.png" in state["reason"]


def test_what_is_still_queued_can_be_reported(train: CommandLine) -> None:
    fake_slurm(train, sbatch="echo 'sbatch: error: no such partition' >&2; exit 1")
    said = train(*SWEEP, "hydra/launcher=slurm", status=1)
    assert "the launcher of the jobs failed: sbatch: error: no such partition" in said
    (sweep,) = train.folder.glob("multirun_results/*/sweep.json")
    report = train.cifar_exp("report", str(sweep.parent.relative_to(train.folder)))
    assert "report.html" in report
    assert "pending" in (sweep.parent / "report.md").read_text()


def fake_slurm(train: CommandLine, sbatch: str) -> None:
    programs = train.folder / "bin"
    programs.mkdir()
    for name, script in {"srun": "exit 0", "sbatch": sbatch}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(stat.S_IRWXU)
    train.environment["PATH"] = f"{programs}:{os.environ['PATH']}"


def test_slurm_is_asked_for_one_gpu_a_run_and_a_signal_before_the_end(train: CommandLine) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    fake_slurm(train, sbatch=f"cp $1 {train.folder}/submitted; exit 1")
    train(*SWEEP, "hydra/launcher=slurm", "hydra.launcher.partition=gpu", status=1)
    directives = (train.folder / "submitted").read_text().splitlines()
    for wanted in (
        "array=0-1%2",  # a job for each run
        "gpus-per-node=1",
        "nodes=1",
        "ntasks-per-node=1",
        "partition=gpu",
        "signal=USR2@120",  # what `train_job` hears
    ):
        assert f"#SBATCH --{wanted}" in directives


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [BASIC, pytest.param(LOCAL, marks=pytest.mark.slow)])
def test_sweeps_of_jobs_that_share_runs_train_each_once(train: CommandLine, launcher: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sweeps = [("-m", *SHORT, launcher, "logger=none", seed) for seed in ("seed=0,1", "seed=1,0,2")]
    processes = [train.start(*sweep) for sweep in sweeps]
    for process in processes:
        out, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
        assert process.returncode == 0, out + err
    assert len(list(train.runs.iterdir())) == 3
    assert [times_started(run) for run in train.runs.iterdir()] == [1, 1, 1]


def printed(train: CommandLine) -> str:
    """What the jobs have written so far to their standard errors."""
    files = train.folder.glob("multirun_results/.hydra/.submitit/*/*.err")
    return "".join(file.read_text() for file in files)


@pytest.mark.slow
def test_a_job_that_is_preempted_is_queued_again_and_goes_on_at_that_step(
    train: CommandLine, new_folder: Callable[[str], CommandLine]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    short = (*SHORT, "epochs=2", "logger=none")
    with held(train, "-m", *short, LOCAL, step=3) as it:
        (job,) = it.hold.held
        log = train.only_run / "train.log"
        # Slurm sends both when it takes a machine away; submitit requeues for the second
        os.kill(job, signal.SIGTERM)
        wait_for(lambda: "stopping at the next step" in printed(train), it.process)
        os.kill(job, signal.SIGUSR2)
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 0, out + err
    assert "interrupted by SIGTERM" in log.read_text()
    assert times_started(train.only_run) == 1
    assert "resumed after epoch 0, step " in log.read_text()
    (output,) = train.folder.glob("multirun_results/.hydra/.submitit/*/*.out")
    assert "Requeued job" in output.read_text()
    alone = new_folder("alone")
    alone(*short)
    assert_same_run(train.only_run, alone.only_run)
    assert [row["epoch"] for row in computed(train.only_run)] == [1, 2]
