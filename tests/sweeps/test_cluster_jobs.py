"""Sweeps whose runs are jobs."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps import cluster_jobs
from cifar_exp.sweeps.cluster_jobs import train_as_jobs
from tests.made import edit, make_run


def test_an_edited_run_does_not_stop_the_jobs_of_the_others(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed=seed) for seed in range(2)]
    configs = [run.read_config() for run in runs]
    edit(runs[0].config_file, "lr: 0.001", "lr: 0.5")
    submitted: list[int] = []

    def jobs(configs: Sequence[RunConfig]) -> list[str | None]:
        submitted.extend(config.seed for config in configs)
        return [None for _ in configs]

    problem, none = train_as_jobs(list(zip(configs, runs, strict=True)), jobs)
    assert problem is not None
    assert "has other settings" in problem
    assert (none, submitted) == (None, [1])


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
