"""A sweep: a list of runs, brought to their ends by worker processes, and the table they make."""

import hashlib
import shlex
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from cifar_exp.config.identity import differences, run_id, run_name, settings
from cifar_exp.config.paths import as_path
from cifar_exp.config.schema import RunConfig, in_group
from cifar_exp.config.study import Study
from cifar_exp.errors import UserError
from cifar_exp.files import shortened, write_json
from cifar_exp.runs.folder import ENDED, RunFolder
from cifar_exp.runs.messages import Died, Ended, FromWorker, Ready, Told, Warned
from cifar_exp.runs.stopping import Interrupted, StopRequest, stop_request
from cifar_exp.runs.workers import Worker, Workers
from cifar_exp.studies.agenda import Agenda, expected_cost
from cifar_exp.studies.screen import Screen
from cifar_exp.studies.table import as_text, ranked, read_sweep, short_names, varied, write_csv
from cifar_exp.studies.writing import writing
from cifar_exp.training.events import EpochMetrics

_POLL_SECONDS = 0.2
_MOST_TOLD_SETTINGS = 3


def run_sweep(
    configs: Sequence[RunConfig],
    runs_per_device: int | None = None,
    studies: Sequence[tuple[Study, Sequence[int]]] = (),
    name: str | None = None,
) -> list[float | None]:
    """Train every run that is not finished, and write the table and the report of all.

    Args:
        configs: checked settings of all runs; the same settings twice are one run.
        runs_per_device: how many at once; None for as many as pay.
        studies: that the runs are for, each with the places of its runs in `configs`.
        name: of the sweep's folder; None for the names of what it varies.

    Returns:
        For each configuration the final test accuracy, a fraction; None if it diverged.

    Raises:
        UserError: nothing can be trained here, or at the end, that runs failed.
        Interrupted: a signal asked to stop.
    """
    if not configs:
        raise UserError("the sweep has no runs; check its lists and globs")
    by_id = {run_id(config): config for config in configs}
    parts = [(study, [run_id(configs[place]) for place in places]) for study, places in studies]
    sweep = Sweep(list(by_id.values()), parts, name)
    failed = sweep.run(runs_per_device)
    if failed:
        raise UserError(f"{failed} of {len(sweep.runs)} runs failed; the same command tries again")
    return [RunFolder.of(config).read_state().get("test_accuracy") for config in configs]


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
        ids = sorted(run_id(config) for config in configs)
        self._varied = varied(configs)
        name = name or ",".join(short_names(self._varied)) or "sweep"
        digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:10]
        # the same runs are the same sweep, so the same command finds its folder again
        self.folder = as_path(configs[0].paths.results) / f"{shortened(name, 80)}-{digest}"
        grouped = [in_group(config, self.folder.name) for config in configs]
        self.runs = [(config, RunFolder.of(config)) for config in grouped]
        self._statuses = [folder.status for _, folder in self.runs]
        for (_, folder), status in zip(self.runs, self._statuses, strict=True):
            if status in ENDED:
                folder.tidy_if_free()

    def run(self, runs_per_device: int | None) -> int:
        """Train what is left; write the table, even when interrupted, and at the end the report.

        Args:
            runs_per_device: how many at once; None for as many as pay.

        Returns:
            How many runs failed.
        """
        pending = [
            number
            for number, (config, _) in enumerate(self.runs)
            if config.rerun or self._statuses[number] not in ENDED
        ]
        try:
            failed = self._train(pending, runs_per_device) if pending else self._announce(pending)
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
            self._announce(pending)
            for number in pending:
                config, folder = self.runs[number]
                folder.claim(config)  # from now on, edited YAML changes nothing
            with _Shift(self, pending, workers) as shift:
                shift.work(stop)
            return shift.failed

    def _announce(self, pending: list[int]) -> int:
        half_done = sum(self._statuses[number] == "interrupted" for number in pending)
        counts = f"{len(self.runs) - len(pending)} finished before"
        counts += f", {half_done} half done" * (half_done > 0)
        print(f"sweep of {len(self.runs)} runs ({counts}): {self.folder}", flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write()
        return 0

    def half_done(self, number: int) -> bool:
        """Tell whether a run was interrupted before this sweep began."""
        return self._statuses[number] == "interrupted"

    def set_status(self, number: int, status: str) -> None:
        """Take note of how a run ended."""
        self._statuses[number] = status
        self.write()

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
        groups = ranked(read_sweep(self.folder))
        print(f"\n{as_text(groups)}\n", flush=True)
        write_csv(self.folder / "results.csv", groups)
        print(self.folder / "results.csv", flush=True)

    def _write_report(self) -> None:
        from cifar_exp.studies.render import write_report  # matplotlib takes a second

        print(write_report(self.folder), flush=True)


class _Shift:
    """The time in which workers train the runs of a sweep that are not finished."""

    def __init__(self, sweep: Sweep, pending: list[int], workers: Workers) -> None:
        self.failed = 0
        self._sweep = sweep
        self._pending = pending  # runs go by their place in this list
        self._configs = [sweep.runs[number][0] for number in pending]
        half_done = [run for run, number in enumerate(pending) if sweep.half_done(number)]
        self._agenda = Agenda(self._configs, half_done, workers.on_gpu)
        self._workers = workers
        self._idle: deque[Worker] = deque()
        self._warned: set[str] = set()
        costs = [expected_cost(config, workers.on_gpu) for config in self._configs]
        self._screen = Screen(costs)

    def __enter__(self) -> "_Shift":
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.close()

    def work(self, stop: StopRequest) -> None:
        try:
            while not self._agenda.done:
                stop()
                for worker, message in self._workers.messages(_POLL_SECONDS):
                    self._hear(worker, message)
                self._hand_out()
        except (Interrupted, UserError) as end:
            if not stop.at_once:
                self._workers.stop(getattr(end, "signal_number", signal.SIGTERM))
            raise

    def _hand_out(self) -> None:
        while self._idle and (task := self._agenda.next()):
            worker = self._idle.popleft()
            beginnings = [self._configs[short] for short in task.beginnings]
            worker.train(task.run, self._configs[task.run], beginnings)
            self._screen.begin(task.run, self._sweep.label(self._configs[task.run]))

    def _hear(self, worker: Worker, message: FromWorker) -> None:
        match message:
            case Ready():
                self._idle.append(worker)
            case Warned(text):
                self._warn(text)
            case Told(run, event):
                self._screen.show(run, event, self._configs[run].training.epochs)
                if isinstance(event, EpochMetrics):
                    self._agenda.passed(run, event.epoch)
            case Ended(run, busy=True):
                self._screen.leave(run)
                self._agenda.postpone(run)
            case Ended(run, problem, out_of_memory=True) if not self._agenda.is_alone(run):
                self._fail(run, str(problem))
            case Ended(run, problem, disk_full=True):
                self._end(run, problem)
                raise UserError(f"{problem}; the other runs have stopped as well")
            case Ended(run, problem):
                self._end(run, problem)
            case Died(reason, runs):
                for run in runs:
                    self._keep_reason(run, reason)
                    self._fail(run, reason)
                self._idle = deque(other for other in self._idle if other is not worker)
                self._workers.replace(worker, reason)

    def _warn(self, text: str) -> None:
        """Tell a warning once, though several workers may give it."""
        if text not in self._warned:
            self._warned.add(text)
            tqdm.write(text)

    def _keep_reason(self, run: int, reason: str) -> None:
        """A worker has died in a run, and left it as it was."""
        config, folder = self._sweep.runs[self._pending[run]]
        with suppress(OSError):
            folder.fail({"run_id": run_id(config)}, reason)

    def _fail(self, run: int, reason: str) -> None:
        """Repeat a run alone, since others may be the reason; the second time it has failed."""
        if not self._agenda.repeat_alone(run):
            self._end(run, f"{reason}, twice")
            return
        config, _ = self._sweep.runs[self._pending[run]]
        self._screen.leave(run)
        tqdm.write(f"{self._sweep.label(config)}: {reason}; it is repeated alone after the others")

    def _end(self, run: int, problem: str | None) -> None:
        number = self._pending[run]
        config, folder = self._sweep.runs[number]
        self.failed += problem is not None
        told = folder.outcome() if problem is None else f"failed: {problem}"
        self._agenda.ended(run)
        self._sweep.set_status(
            number, folder.read_state()["status"] if problem is None else "failed"
        )
        self._screen.end(run, f"{self._sweep.label(config)}: {told}")
