"""Sweeps on a local Ray cluster of two CPUs, which takes half a minute to start and stop."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.conftest import ROOT, CommandLine
from tests.reliability.faults import SHORT, STEPS_PER_EPOCH, assert_same_runs, held, times_started
from tests.reliability.hold import LONGEST_WAIT_SECONDS

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CLUSTER = (
    "hydra/launcher=ray",
    "+hydra.launcher.ray.init.num_cpus=2",
    "hydra.launcher.ray.remote.num_gpus=0",
)
SWEEP = ("-m", *SHORT, "seed=0,1", "logger=none")


def test_runs_equal_those_of_the_default_launcher_although_a_process_is_killed(
    new_folder: Callable[[str], CommandLine],
) -> None:
    pytest.importorskip("ray")
    ray, default = new_folder("ray"), new_folder("default")
    # Ray's processes import the installed package
    ray.environment["PYTHONPATH"] = str(ROOT)
    with held(ray, *SWEEP, *CLUSTER, step=STEPS_PER_EPOCH + 1, processes=2) as it:
        os.kill(min(it.hold.held), signal.SIGKILL)  # Ray restarts its run in another process
    out, err = it.process.communicate(timeout=LONGEST_WAIT_SECONDS)
    assert it.process.returncode == 0, out + err
    assert out.count("complete: ") == 2
    assert [times_started(run) for run in ray.runs.iterdir()] == [1, 1]
    logs = [(run / "train.log").read_text() for run in ray.runs.iterdir()]
    assert sum("resumed after epoch 1" in log for log in logs) == 1
    default(*SWEEP, "hydra.launcher.runs_per_device=1")
    assert_same_runs(ray, default)
    assert "sweep of 2 runs (2 finished before)" in ray(*SWEEP, *CLUSTER)
