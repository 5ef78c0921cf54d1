"""Sweeps whose runs are jobs of another launcher: the same runs, table and report.

Hydra's basic launcher trains in the process of the sweep. Submitit's local executor starts
processes that share only the folder with the sweep, like jobs of a cluster.
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
    # jobs are new processes, which import the installed package
    train.environment["PYTHONPATH"] = str(ROOT)
    train.initial_environment["PYTHONPATH"] = str(ROOT)
    return train


def test_the_runs_equal_those_of_the_default_launcher(
    new_folder: Callable[[str], CommandLine],
) -> None:
    jobs, default = new_folder("jobs"), new_folder("default")
    jobs(*SWEEP, BASIC)
    default(*SWEEP, "hydra.launcher.runs_per_device=1")
    assert_same_runs(jobs, default)
    assert "sweep of 2 runs (2 finished before)" in jobs(*SWEEP)


def test_a_study_has_a_report(train: CommandLine) -> None:
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
    output = train("--config-dir", str(train.folder), "study=mine", *TINY, "epochs=1", BASIC)
    assert "sweep of 2 runs (0 finished before)" in output
    (report,) = train.folder.glob("multirun_results/mine-*/report.md")
    assert "It rises." in report.read_text()


def test_a_mistake_in_the_last_run_is_reported_before_the_first_is_submitted(
    train: CommandLine,
) -> None:
    output = train("-m", *TINY, "epochs=1,0", BASIC, status=1)
    assert "training.epochs: expected a number greater than or equal to 1, got 0" in output
    assert not train.runs.exists()


def test_failed_runs_are_listed_with_their_reasons(train: CommandLine) -> None:
    images = train.folder / "photos"
    for split in ("train", "test"):
        (images / split / "a").mkdir(parents=True)
        (images / split / "b").mkdir()
        for name in ("a/1.png", "b/1.png"):
            (images / split / name).write_text("not an image")
    data = ("data=image_folder", "data.root=photos", "batch_size=2", "seed=0,1", "device=cpu")
    output = train("-m", *data, "model=vgg11", "epochs=1", BASIC, status=1)
    for seed in (0, 1):
        assert f"seed={seed}: failed: " in output
    assert "2 of 2 runs failed. Run the same command again to retry them." in output
    for run in train.runs.iterdir():
        state = read_state(run)
        assert state["status"] == "failed"
        assert "1.png" in state["reason"]


def test_a_sweep_with_queued_runs_has_a_report(train: CommandLine) -> None:
    fake_slurm(train, sbatch="echo 'sbatch: error: no such partition' >&2; exit 1")
    output = train(*SWEEP, "hydra/launcher=slurm", status=1)
    assert "The job launcher failed: sbatch: error: no such partition" in output
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


def test_slurm_gives_each_run_one_gpu_and_a_signal_before_the_end(train: CommandLine) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    fake_slurm(train, sbatch=f"cp $1 {train.folder}/submitted; exit 1")
    train(*SWEEP, "hydra/launcher=slurm", "hydra.launcher.partition=gpu", status=1)
    directives = (train.folder / "submitted").read_text().splitlines()
    for directive in (
        "array=0-1%2",  # one job per run
        "gpus-per-node=1",
        "nodes=1",
        "ntasks-per-node=1",
        "partition=gpu",
        "signal=USR2@120",  # which `train_job` handles
    ):
        assert f"#SBATCH --{directive}" in directives


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
    """Return the standard errors of the jobs."""
    files = train.folder.glob("multirun_results/.hydra/.submitit/*/*.err")
    return "".join(file.read_text() for file in files)


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_resumes_at_that_step(
    train: CommandLine, new_folder: Callable[[str], CommandLine]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    short = (*SHORT, "epochs=2", "logger=none")
    with held(train, "-m", *short, LOCAL, step=3) as it:
        (job,) = it.hold.held
        log = train.only_run / "train.log"
        # Slurm sends both before it takes a machine away; submitit requeues after the second
        os.kill(job, signal.SIGTERM)
        wait_for(lambda: "Stopping at the next step" in printed(train), it.process)
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
