"""A full disk: earlier checkpoints are kept, and the run resumes once there is space."""

import shutil
import sys

import pytest

from tests.conftest import TINY, CommandLine, read_state
from tests.reliability.faults import (
    SHORT,
    STEPS_PER_EPOCH,
    TWO_AT_ONCE,
    assert_same_run,
    assert_same_runs,
    checkpoints,
    enlarge,
    epochs_done,
    fill,
    held,
    in_place_of,
    small_disk,
    times_started,
)
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="mounts file systems"),
]
# A checkpoint of this run has 480 kB.
RUN = (*SHORT, "epochs=12")
SWEEP = ("-m", *RUN, "seed=0,1", TWO_AT_ONCE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command_line) -> CommandLine:
    train = command_line(tmp_path_factory.mktemp("whole"))
    train(*SWEEP)
    return train


@pytest.fixture
def run_name(whole: CommandLine) -> str:
    """Name of the folder of the run with seed 0."""
    (name,) = (run.name for run in whole.runs.iterdir() if "seed=" not in run.name)
    return name


def assert_resumes(train: CommandLine, whole: CommandLine, name: str) -> None:
    """Check that the same command resumes the run, with the same results bit for bit."""
    train(*RUN)
    assert_same_run(train.runs / name, whole.runs / name)
    assert times_started(train.runs / name) == 1


def assert_reported(output: str) -> None:
    assert "disk full" in output
    assert "Free some space and run the same command again to resume" in output
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) <= 4


def test_a_run_resumes_after_the_disk_was_full_for_a_checkpoint(
    train: CommandLine, whole: CommandLine, run_name: str
) -> None:
    folder = train.runs / run_name / "checkpoints"
    with small_disk(folder, 1_200_000):  # two fit
        assert_reported(train(*RUN, status=1))
        state = read_state(train.only_run)
        assert state["status"] == "failed"
        assert state["reason"].startswith("disk full")
        assert len(checkpoints(train.only_run)) == 2
        assert not list(folder.glob(".*.tmp"))  # the third one
        enlarge(folder, 10_000_000)
        assert_resumes(train, whole, run_name)


@pytest.mark.slow
def test_a_run_resumes_after_the_disk_was_full_for_metrics(
    train: CommandLine, whole: CommandLine, run_name: str
) -> None:
    run = train.runs / run_name
    with (
        held(train, *RUN, step=STEPS_PER_EPOCH + 1) as it,
        in_place_of("/dev/full", run / "metrics.jsonl"),
    ):
        it.hold.release()
        _, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 1
    assert_reported(err)
    assert read_state(run)["reason"].startswith("disk full")
    assert_resumes(train, whole, run_name)


@pytest.mark.slow
def test_a_run_resumes_after_the_disk_was_full_for_an_event_file(
    train: CommandLine, whole: CommandLine, run_name: str
) -> None:
    with small_disk(train.folder / "logs", 500_000):
        with held(train, *RUN, step=3) as it:  # in its first epoch
            fill(train.folder / "logs")
        _, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
        assert it.process.returncode == 1
        assert_reported(err)
        assert read_state(train.only_run)["reason"].startswith("disk full: cannot write logs/")
    train(*RUN)
    assert_same_run(train.runs / run_name, whole.runs / run_name)


@pytest.mark.slow
def test_a_sweep_resumes_after_the_disk_was_full(train: CommandLine, whole: CommandLine) -> None:
    results = train.folder / "multirun_results"
    with small_disk(results, 20_000_000):
        with held(train, *SWEEP, step=STEPS_PER_EPOCH + 1, processes=2) as it:
            ballast = fill(results)
        out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
        assert it.process.returncode == 1, out + err
        assert "disk full" in err
        assert "the other runs were stopped as well" in err or "The runs are kept" in err
        assert "Traceback" not in out + err
        starts = {run: times_started(run) for run in train.runs.iterdir() if checkpoints(run)}
        assert starts
        ballast.unlink()
        train(*SWEEP)
        assert_same_runs(train, whole)
        assert all(times_started(run) == times for run, times in starts.items())


@pytest.mark.slow
def test_a_report_is_written_after_the_disk_was_full(train: CommandLine) -> None:
    sweep = ("-m", *TINY, "seed=0,1")
    train(*sweep)
    (folder,) = (path.parent for path in train.folder.glob("multirun_results/*/sweep.json"))
    shutil.rmtree(folder)
    with small_disk(folder, 16_000):  # sweep.json and results.csv fit, figures do not
        output = train(*sweep, status=1)
        assert f"multirun_results/{folder.name}/" in output
        assert ": cannot be written (disk full). The runs are kept." in output
        assert "Traceback" not in output
        assert not list(folder.rglob(".*.tmp"))
        assert {read_state(run)["status"] for run in train.runs.iterdir()} == {"complete"}
        enlarge(folder, 10_000_000)
        assert "sweep of 2 runs (2 finished before)" in train(*sweep)
        assert (folder / "report.html").exists()


def test_a_sweep_that_does_not_fit_on_the_disk_is_refused(
    train: CommandLine,
) -> None:
    with small_disk(train.folder / "multirun_results", 3_000_000):
        output = train(*SWEEP, status=1)
        assert "2 runs need about" in output
        assert "3 MB are free" in output
        assert "paths.results=FOLDER" in output
        assert len(output.strip().splitlines()) <= 2
        assert not train.runs.exists()


@pytest.mark.slow
def test_a_file_size_limit_is_reported_as_a_full_disk(train: CommandLine, run_name: str) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    process = train.start(*RUN, preexec_fn=limit)
    _, err = process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert process.returncode == 1
    assert "disk full (a limit on the size of files)" in err
    assert_reported(err)
    assert epochs_done(train.only_run) == 1
    train(*RUN)
