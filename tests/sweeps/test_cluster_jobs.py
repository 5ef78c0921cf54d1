"""Sweeps whose runs are jobs."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps import cluster_jobs
from cifar_exp.sweeps.cluster_jobs import train_as_jobs
from tests.made import make_run


def test_a_sweep_waits_for_a_run_that_another_job_has_just_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path)
    ended = folder.read_state()
    (folder.path / "run.json").unlink()  # the other job has not written it yet
    with ExitStack() as other_job:

        def start_other_job(configs: Sequence[RunConfig]) -> list[str | None]:
            other_job.enter_context(folder.lock())
            return [None for _ in configs]

        def end_other_job(_seconds: float) -> None:
            folder.write_state(ended)
            other_job.close()

        monkeypatch.setattr(cluster_jobs.time, "sleep", end_other_job)
        assert train_as_jobs([(folder.read_config(), folder)], start_other_job) == [None]
