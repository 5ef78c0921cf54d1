"""A sweep: a list of runs, brought to their ends by worker processes, and the table they make."""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import differences, run_id, run_name, settings, varied
from cifar_exp.config.keys import short_names
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.files import shortened, write_json
from cifar_exp.loggers.hparams import declare
from cifar_exp.loggers.run_loggers import in_group, restore_events
from cifar_exp.loggers.tensorboard import needs_events
from cifar_exp.paths import SWEEP_FILE, TABLE_FILE
from cifar_exp.reports.locking import writing
from cifar_exp.reports.records import read_sweep, sweep_id
from cifar_exp.reports.table import as_text, ranked, write_csv
from cifar_exp.runs.continuing import checkpoint_room, continuing_lines
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.runs.moved_images import recognised
from cifar_exp.runs.record import Record, read_record, remarks
from cifar_exp.signals import stop_request
from cifar_exp.sweeps.cluster_jobs import RunJobs, train_as_jobs
from cifar_exp.sweeps.dispatcher import Dispatcher
from cifar_exp.sweeps.messages import Ended
from cifar_exp.sweeps.until_settled import next_runs
from cifar_exp.sweeps.worker_pool import WorkerPool
from cifar_exp.terminal import columns, printable

_MOST_TOLD_SETTINGS = 3


def run_sweep(
    configs: Sequence[RunConfig],
    runs_per_device: int | None = None,
    studies: Sequence[tuple[Study, Sequence[int]]] = (),
    name: str | None = None,
    run_jobs: RunJobs | None = None,
) -> list[float | None]:
    """Train every run that is not finished, and write the table and the report of all.

    Args:
        configs: checked settings of all runs; the same settings twice are one run.
        runs_per_device: how many at once; None for as many as pay.
        studies: that the runs are for, each with the places of its runs in `configs`.
        name: of the sweep's folder; None for the names of what it varies.
        run_jobs: trains runs elsewhere; None to train them in workers on this machine.

    Returns:
        For each configuration the final accuracy, a fraction; None if it diverged.

    Raises:
        UserError: nothing can be trained here, or at the end, that runs failed.
        Interrupted: a signal asked to stop.
    """
    if not configs:
        raise UserError("the sweep has no runs; check its lists and globs")
    configs = recognised(configs)
    by_id = {run_id(config): config for config in configs}
    parts = [(study, [run_id(configs[place]) for place in places]) for study, places in studies]
    sweep = Sweep(list(by_id.values()), parts, name)
    sweep.run(runs_per_device, run_jobs)
    folders = {run_id(config): folder for config, folder in sweep.runs}
    return [folders[run_id(config)].results.accuracy for config in configs]


class Sweep:
    """Runs that belong together. They are listed here, and owned by nobody.

    Args:
        configs: different runs, at least one.
        studies: that they are for, each with the ids of its runs; none for a plain sweep.
        name: of its folder; None for the names of what it varies.

    Attributes:
        folder: of the sweep.
        runs: with their folders; those that studies add follow the first ones.
    """

    def __init__(
        self,
        configs: list[RunConfig],
        studies: Sequence[tuple[Study, Sequence[str]]] = (),
        name: str | None = None,
    ) -> None:
        self._studies = [(study, list(ids)) for study, ids in studies]
        self._adds_seeds = any(study.adds_seeds for study, _ in studies)
        self._first_runs = len(configs)
        self._varied = varied(configs)
        name = name or ",".join(short_names(self._varied)) or "sweep"
        # the same command finds its folder again
        ids = sweep_id(list(map(run_id, configs)), self._adds_seeds)
        self.folder = as_path(configs[0].paths.results) / f"{shortened(name, 80)}-{ids}"
        self.runs: list[tuple[RunConfig, RunFolder]] = []
        self._add(configs)

    def _add(self, configs: Sequence[RunConfig]) -> None:
        grouped = [in_group(config, self.folder.name) for config in configs]
        self.runs += zip(grouped, RunFolder.of_all(grouped), strict=True)

    def run(self, runs_per_device: int | None, run_jobs: RunJobs | None = None) -> None:
        """Train what is left; write the table, even when interrupted, and at the end the report.

        Args:
            runs_per_device: how many at once; None for as many as pay.
            run_jobs: trains runs elsewhere, if not None.

        Raises:
            UserError: nothing can be trained here, or at the end, that runs failed.
            Interrupted: a signal asked to stop.
        """
        try:
            if self._adds_seeds and not any(config.rerun for config, _ in self.runs):
                self._add_seeds()  # those of an interrupted sweep
            failed = self._train_what_is_left(runs_per_device, run_jobs)
            while not failed and self._add_seeds():
                failed = self._train_what_is_left(runs_per_device, run_jobs)
        except BaseException:
            if self.folder.exists():
                with suppress(UserError):  # which would hide what happened
                    self._write_table(*read_sweep(self.folder))
            raise
        by_id, left_out = read_sweep(self.folder)
        self._write_table(by_id, left_out)
        self._write_report(by_id, left_out)
        if failed:
            raise UserError(
                f"{failed} of {len(self.runs)} runs failed; the same command tries again"
            )

    def _train_what_is_left(self, runs_per_device: int | None, run_jobs: RunJobs | None) -> int:
        """Bring all runs to their ends. Returns: failed runs."""
        pending, finished = [], []
        for config, folder in self.runs:
            status = folder.status
            if status in ENDED:
                folder.tidy_if_free()
            if config.rerun or status not in ENDED:
                pending.append(_Pending(config, folder, status))
            else:
                finished.append((config, folder))
        _restore_events(finished)
        if not pending:
            self._announce(pending)
            return 0
        if run_jobs:
            return self._train_elsewhere(pending, run_jobs)
        return self._train(pending, runs_per_device)

    def _add_seeds(self) -> bool:
        """Add the runs that open claims need, as far as ended runs show. Returns: any to train."""
        # what was to be repeated is done
        self.runs = [(c.model_copy(update={"rerun": False}), folder) for c, folder in self.runs]
        while self._adds_seeds and not self._left():
            records = {run_id(config): read_record(folder) for config, folder in self.runs}
            new: dict[str, RunConfig] = {}
            for study, ids in self._studies:
                more = {run_id(c): c for c in next_runs(study, [records[id] for id in ids])}
                ids.extend(more)
                new |= more
            if not new:
                return False
            self._add([config for id, config in new.items() if id not in records])
        left = [self.label(config) for config in self._left()]
        if self._adds_seeds and left and len(self.runs) > self._first_runs:
            print(f"claims are open; trained next: {', '.join(left)}", flush=True)
        return bool(left)

    def _left(self) -> list[RunConfig]:
        return [config for config, folder in self.runs if folder.status not in ENDED]

    def _train(self, pending: list["_Pending"], runs_per_device: int | None) -> int:
        """Hand the pending runs to workers until all have ended. Returns: failed runs."""
        configs = [run.config for run in pending]
        pool = WorkerPool(configs, runs_per_device, len(self.runs))
        with stop_request() as stop, pool as workers:
            self._announce(pending, workers.kept_bytes)
            for run in pending:
                with suppress(UserError):  # its worker reports what is wrong with it
                    run.folder.claim(run.config)  # from now on, edited YAML changes nothing
            interrupted = [i for i, run in enumerate(pending) if run.status == "interrupted"]
            folders = {run_id(run.config): run.folder for run in pending}

            def ended(config: RunConfig, end: Ended) -> str:
                if end.problem is not None:
                    return f"failed: {end.problem}"
                return folders[run_id(config)].outcome()

            with Dispatcher(workers, self.label, ended, configs, interrupted) as dispatcher:
                dispatcher.work(stop)
            return dispatcher.failed

    def _train_elsewhere(self, pending: list["_Pending"], run_jobs: RunJobs) -> int:
        """Let jobs bring the pending runs to their ends. Returns: runs that did not come there."""
        from cifar_exp.runs.preflight import preflight  # PyTorch takes seconds

        configs = [run.config for run in pending]
        self._announce(pending, preflight(configs, at_once=len(configs), trains_here=False))
        print(f"what is done so far: python -m cifar_exp report {self.folder}", flush=True)
        problems = train_as_jobs([(run.config, run.folder) for run in pending], run_jobs)
        for run, problem in zip(pending, problems, strict=True):
            print(f"{self.label(run.config)}: {problem or run.folder.outcome()}", flush=True)
        return len(problems) - problems.count(None)

    def _announce(self, pending: list["_Pending"], kept_bytes: int = 0) -> None:
        statuses = Counter(run.status for run in pending)
        counts = f"{len(self.runs) - len(pending)} finished before"
        if statuses["interrupted"]:
            counts += f", {statuses['interrupted']} interrupted"
        runs = f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}"
        print(f"sweep of {runs} ({counts}): {self.folder}", flush=True)
        new = [run.config for run in pending if run.status == "pending"]
        for line in continuing_lines(new, [run_id(config) for config, _ in self.runs]):
            print(line, flush=True)
        if room := checkpoint_room(kept_bytes):
            print(room, flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_list()

    def label(self, config: RunConfig) -> str:
        """Say what tells a run from the others of the sweep: `lr=0.1 seed=2`.

        Of many settings those that differ from the article's.
        """
        flat = settings(config)
        names = list(zip(short_names(self._varied), self._varied, strict=True))
        if len(self._varied) > _MOST_TOLD_SETTINGS:
            names = [(name, key) for name, key in names if key in differences(config)]
        words = [f"{name}={flat[key]}" for name, key in names if key in flat]
        if len({other.seed for other, _ in self.runs}) > 1:
            words.append(f"seed={config.seed}")
        return " ".join(words) or run_name(config)

    def _write_list(self) -> None:
        """Write sweep.json, the list of the runs."""
        runs = [
            {"run_id": run_id(config), "folder": folder.path.name} for config, folder in self.runs
        ]
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        studies = [
            {
                "study": study.model_dump(mode="json", exclude_unset=True),
                "runs": list(dict.fromkeys(ids)),
            }
            for study, ids in self._studies
        ]
        content: dict[str, Any] = {"command": command, "runs": runs, "studies": studies}
        if self._adds_seeds:
            content["first_runs"] = self._first_runs
        with writing(self.folder):
            write_json(self.folder / SWEEP_FILE, content)

    def _write_table(self, by_id: Mapping[str, Record], left_out: Sequence[str]) -> None:
        records = list(by_id.values())
        groups = ranked(records)
        print(f"\n{as_text(groups, width=columns())}\n", flush=True)
        for line in (*left_out, *remarks(records)):
            print(printable(line), file=sys.stderr, flush=True)
        write_csv(self.folder / TABLE_FILE, groups)
        print(self.folder / TABLE_FILE, flush=True)

    def _write_report(self, by_id: Mapping[str, Record], left_out: Sequence[str]) -> None:
        from cifar_exp.reports.content import report_of
        from cifar_exp.reports.render import write_report  # matplotlib takes a second

        print(write_report(self.folder, lambda _: report_of(self.folder, by_id, left_out)))


@dataclass(frozen=True)
class _Pending:
    """A run that is to be trained, and its status before."""

    config: RunConfig
    folder: RunFolder
    status: str


def _restore_events(finished: Sequence[tuple[RunConfig, RunFolder]]) -> None:
    """Write the event files of finished runs again, where somebody has removed them."""
    gone = [(config, folder) for config, folder in finished if needs_events(config)]
    try:
        for config, folder in gone:
            with suppress(BusyError), folder.lock():
                restore_events(config, folder.path, folder.read_metrics(), folder.read_state())
        declare([config for config, _ in gone])
    except OSError as error:  # the table and the report do without them
        print(f"{error.filename}: TensorBoard's files are not restored: {error.strerror}")
