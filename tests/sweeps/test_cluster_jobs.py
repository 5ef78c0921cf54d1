"""Runs that are jobs, beside those of another sweep."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from cifar_exp.config.schema import RunConfig
from cifar_exp.sweeps import cluster_jobs
from cifar_exp.sweeps.cluster_jobs import train_as_jobs
from tests.made import make_run


def test_a_run_that_another_job_has_just_begun_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path)
    ended = folder.read_state()
    (folder.path / "run.json").unlink()  # the other job has yet to write that it trains
    with ExitStack() as other:

        def find_it_busy(configs: Sequence[RunConfig]) -> list[str | None]:
            other.enter_context(folder.lock())
            return [None for _ in configs]

        def end_it(_seconds: float) -> None:
            folder.write_state(ended)
            other.close()

        monkeypatch.setattr(cluster_jobs.time, "sleep", end_it)
        assert train_as_jobs([(folder.read_config(), folder)], find_it_busy) == [None]
