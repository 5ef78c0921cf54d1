"""A sweep: a list of runs, brought to their ends by worker processes, and the table they make."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

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
from cifar_exp.reports.locking import writing
from cifar_exp.reports.records import read_sweep, sweep_id
from cifar_exp.reports.table import as_text, ranked, write_csv
from cifar_exp.runs.continuing import checkpoint_room, continuing_lines
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.runs.moved_images import recognised
from cifar_exp.runs.record import remarks
from cifar_exp.signals import stop_request
from cifar_exp.sweeps.cluster_jobs import RunJobs, check_before_jobs, train_as_jobs
from cifar_exp.sweeps.dispatcher import Shift
from cifar_exp.sweeps.messages import Ended
from cifar_exp.sweeps.worker_pool import Workers
from cifar_exp.terminal import columns, printable
from cifar_exp.training.progress import EpochMetrics

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
    failed = sweep.run(runs_per_device, run_jobs)
    if failed:
        raise UserError(f"{failed} of {len(sweep.runs)} runs failed; the same command tries again")
    return [RunFolder.of(config).results.accuracy for config in configs]


class Sweep:
    """Runs that belong together. They are listed here, and owned by nobody.

    Args:
        configs: different runs, at least one.
        studies: that they are for, each with the ids of its runs; none for a plain sweep.
        name: of its folder; None for the names of what it varies.
    """

    def __init__(
        self,
        configs: list[RunConfig],
        studies: Sequence[tuple[Study, Sequence[str]]] = (),
        name: str | None = None,
    ) -> None:
        self._studies = studies
        self._numbers = {run_id(config): number for number, config in enumerate(configs)}
        self._varied = varied(configs)
        name = name or ",".join(short_names(self._varied)) or "sweep"
        # the same command finds its folder again
        name = f"{shortened(name, 80)}-{sweep_id(list(self._numbers))}"
        self.folder = as_path(configs[0].paths.results) / name
        grouped = [in_group(config, self.folder.name) for config in configs]
        self.runs = [(config, RunFolder.of(config)) for config in grouped]
        self._statuses = [folder.status for _, folder in self.runs]
        for (_, folder), status in zip(self.runs, self._statuses, strict=True):
            if status in ENDED:
                folder.tidy_if_free()

    def run(self, runs_per_device: int | None, run_jobs: RunJobs | None = None) -> int:
        """Train what is left; write the table, even when interrupted, and at the end the report.

        Args:
            runs_per_device: how many at once; None for as many as pay.
            run_jobs: trains runs elsewhere, if not None.

        Returns:
            How many runs failed.
        """
        pending = [
            number
            for number, (config, _) in enumerate(self.runs)
            if config.rerun or self._statuses[number] not in ENDED
        ]
        self._restore_events([n for n in range(len(self.runs)) if n not in pending])
        try:
            if not pending:
                failed = self._announce(pending)
            elif run_jobs:
                failed = self._train_elsewhere(pending, run_jobs)
            else:
                failed = self._train(pending, runs_per_device)
        except BaseException:
            if self.folder.exists():
                with suppress(UserError):  # which would hide what happened
                    self._write_table()
            raise
        self._write_table()
        self._write_report()
        return failed

    def _train(self, pending: list[int], runs_per_device: int | None) -> int:
        """Hand the pending runs to workers until all have ended. Returns: failed runs."""
        configs = [self.runs[number][0] for number in pending]
        with stop_request() as stop, Workers(configs, runs_per_device, len(self.runs)) as workers:
            self._announce(pending, workers.kept_bytes)
            for number in pending:
                config, folder = self.runs[number]
                with suppress(UserError):  # its worker reports what is wrong with it
                    folder.claim(config)  # from now on, edited YAML changes nothing
            half_done = [
                place
                for place, number in enumerate(pending)
                if self._statuses[number] == "interrupted"
            ]
            with Shift(self, configs, half_done, workers) as shift:
                shift.work(stop)
            return shift.failed

    def _train_elsewhere(self, pending: list[int], run_jobs: RunJobs) -> int:
        """Let jobs bring the pending runs to their ends. Returns: runs that did not come there."""
        runs = [self.runs[number] for number in pending]
        self._announce(pending, check_before_jobs([config for config, _ in runs]))
        print(f"what is done so far: python -m cifar_exp report {self.folder}", flush=True)
        problems = train_as_jobs(runs, run_jobs)
        for number, problem in zip(pending, problems, strict=True):
            config, folder = self.runs[number]
            self._statuses[number] = folder.status
            print(f"{self.label(config)}: {problem or folder.outcome()}", flush=True)
        self.write()
        return len(problems) - problems.count(None)

    def _restore_events(self, finished: Sequence[int]) -> None:
        """Write the event files of finished runs again, where somebody has removed them."""
        gone = [self.runs[number] for number in finished if needs_events(self.runs[number][0])]
        try:
            for config, folder in gone:
                with suppress(BusyError), folder.lock():
                    restore_events(config, folder.path, folder.read_metrics(), folder.read_state())
            declare([config for config, _ in gone])
        except OSError as error:  # they are a mirror: the table and the report do without
            print(f"{error.filename}: TensorBoard's files are not restored: {error.strerror}")

    def _announce(self, pending: list[int], kept_bytes: int = 0) -> int:
        half_done = sum(self._statuses[number] == "interrupted" for number in pending)
        counts = f"{len(self.runs) - len(pending)} finished before"
        counts += f", {half_done} half done" * (half_done > 0)
        runs = f"{len(self.runs)} run{'s' * (len(self.runs) > 1)}"
        print(f"sweep of {runs} ({counts}): {self.folder}", flush=True)
        new = [self.runs[n][0] for n in pending if self._statuses[n] == "pending"]
        for line in continuing_lines(new, list(self._numbers)):
            print(line, flush=True)
        if kept_bytes:
            print(checkpoint_room(kept_bytes), flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write()
        return 0

    @property
    def wants_more(self) -> bool:
        """A sweep knows all its runs."""
        return False

    def more(self) -> None:
        """There are no others."""

    def goes_on(self, _config: RunConfig, _metrics: EpochMetrics) -> bool:
        """Every run is trained to its end."""
        return True

    def ended(self, config: RunConfig, end: Ended) -> str:
        """Take note of a run that is over. Returns: how it ended, in a line."""
        number = self._numbers[run_id(config)]
        _, folder = self.runs[number]
        told = folder.outcome() if end.problem is None else f"failed: {end.problem}"
        failed = end.problem is not None
        self._statuses[number] = "failed" if failed else folder.read_state()["status"]
        self.write()
        return told

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

    def write(self) -> None:
        """Write sweep.json, the list of the runs and how they stand."""
        runs = [
            {"run_id": run_id(config), "folder": folder.path.name, "status": status}
            for (config, folder), status in zip(self.runs, self._statuses, strict=True)
        ]
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        studies = [
            {
                "study": study.model_dump(mode="json", exclude_unset=True),
                "runs": list(dict.fromkeys(ids)),
            }
            for study, ids in self._studies
        ]
        content = {"command": command, "runs": runs, "studies": studies}
        with writing(self.folder):
            write_json(self.folder / "sweep.json", content)

    def _write_table(self) -> None:
        by_id, left_out = read_sweep(self.folder)
        records = list(by_id.values())
        groups = ranked(records)
        print(f"\n{as_text(groups, width=columns())}\n", flush=True)
        for line in (*left_out, *remarks(records)):
            print(printable(line), file=sys.stderr, flush=True)
        write_csv(self.folder / "results.csv", groups)
        print(self.folder / "results.csv", flush=True)

    def _write_report(self) -> None:
        from cifar_exp.reports.render import write_report  # matplotlib takes a second

        print(write_report(self.folder), flush=True)
