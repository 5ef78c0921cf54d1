"""A sweep: a list of runs, brought to their ends one after another, and the table they make."""

import hashlib
import shlex
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from cifar_exp.config.identity import run_id, run_name, settings
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.runs.files import write_json
from cifar_exp.runs.folder import ENDED, BusyError, RunFolder
from cifar_exp.runs.progress import show_warnings
from cifar_exp.runs.runner import Runner, preflight
from cifar_exp.runs.single import outcome
from cifar_exp.runs.stopping import stop_request
from cifar_exp.studies.table import as_text, ranked, read_sweep, short_names, varied, write_csv
from cifar_exp.training.metrics import EpochMetrics


def run_sweep(configs: Sequence[RunConfig]) -> list[float | None]:
    """Train every run that is not finished, and show and write the table of all.

    Args:
        configs: checked settings of all runs; the same settings twice are one run.

    Returns:
        For each configuration the final test accuracy, a fraction; None if it diverged.

    Raises:
        UserError: nothing can be trained here, or at the end, that runs failed.
        Interrupted: a signal asked to stop.
    """
    show_warnings()
    if not configs:
        raise UserError("the sweep has no runs; check its lists and globs")
    for config in configs:
        preflight(config)
    sweep = Sweep(list({run_id(config): config for config in configs}.values()))
    failed = sweep.run()
    if failed:
        raise UserError(f"{failed} of {len(sweep.runs)} runs failed; the same command tries again")
    return [RunFolder.of(config).read_state().get("test_accuracy") for config in configs]


class Sweep:
    """Runs that belong together. They are listed here, and owned by nobody.

    Args:
        configs: different runs, at least one.
    """

    def __init__(self, configs: list[RunConfig]) -> None:
        self.runs = [(config, RunFolder.of(config)) for config in configs]
        ids = sorted(run_id(config) for config in configs)
        self._varied = varied(configs)
        name = ",".join(short_names(self._varied)) or "sweep"
        digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:10]
        # the same runs are the same sweep, so the same command finds its folder again
        self.folder = Path(configs[0].paths.results) / f"{name[:80]}-{digest}"

    def run(self) -> int:
        """Train what is left and write the table, even when interrupted. Returns: failed runs."""
        pending = self._announce()
        failed = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        for config, folder in pending:
            folder.claim(config)  # from now on, edited YAML changes nothing
        self._write()
        epochs = sum(config.training.epochs for config, _ in pending)
        try:
            with stop_request() as stop, SweepBar(len(pending), epochs) as bar:
                runner = Runner(stop, bar.epoch_done, bar_position=1)
                waiting = deque(pending)
                while waiting:
                    stop()
                    config, folder = waiting.popleft()
                    try:
                        told = self._train(runner, config, folder)
                    except BusyError:  # by another process: come back to it
                        waiting.append((config, folder))
                        continue
                    failed += told.startswith("failed")
                    bar.run_done(f"{self._label(config)}: {told}")
                    self._write()
        finally:
            self._write_table()
        return failed

    def _announce(self) -> list[tuple[RunConfig, RunFolder]]:
        """Say what will be done, and return the runs to train, those half done first."""
        statuses = {folder: folder.status for _, folder in self.runs}
        pending = [run for run in self.runs if run[0].rerun or statuses[run[1]] not in ENDED]
        pending.sort(key=lambda run: statuses[run[1]] != "interrupted")
        half_done = sum(statuses[folder] == "interrupted" for _, folder in pending)
        counts = f"{len(self.runs) - len(pending)} finished before"
        counts += f", {half_done} half done" * (half_done > 0)
        print(f"sweep of {len(self.runs)} runs ({counts}): {self.folder}", flush=True)
        return pending

    def _train(self, runner: Runner, config: RunConfig, folder: RunFolder) -> str:
        """Train one run, and return how it ended: a line that begins with its status."""
        try:
            runner.run(config, self._label(config))
        except BusyError:
            raise
        except UserError as error:
            return f"failed: {error}"
        return outcome(folder)

    def _label(self, config: RunConfig) -> str:
        """Say what tells a run from the others of the sweep: `lr=0.1 seed=2`."""
        flat = settings(config)
        names = zip(short_names(self._varied), self._varied, strict=True)
        words = [f"{name}={flat[key]}" for name, key in names if key in flat]
        if len({other.seed for other, _ in self.runs}) > 1:
            words.append(f"seed={config.seed}")
        return " ".join(words) or run_name(config)

    def _write(self) -> None:
        runs = [
            {"run_id": run_id(config), "folder": folder.path.name, "status": folder.status}
            for config, folder in self.runs
        ]
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        write_json(self.folder / "sweep.json", {"command": command, "runs": runs})

    def _write_table(self) -> None:
        groups = ranked(read_sweep(self.folder))
        write_csv(self.folder / "results.csv", groups)
        print(f"\n{as_text(groups)}\n\n{self.folder / 'results.csv'}", flush=True)


class SweepBar:
    """Shows how far a sweep is and how long the rest will take.

    Args:
        runs: to be trained.
        epochs: of all of them together.
    """

    def __init__(self, runs: int, epochs: int) -> None:
        self._runs = runs
        self._started = time.monotonic()
        self._bar: tqdm[NoReturn] = tqdm(
            desc="sweep", total=epochs, unit="epoch", dynamic_ncols=True, disable=None, leave=False
        )
        self._runs_done = 0
        self._epochs_done = 0
        self._total_epochs = epochs

    def __enter__(self) -> "SweepBar":
        """Show the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar from the screen."""
        self._bar.close()

    def epoch_done(self, _: EpochMetrics) -> None:
        """Count an epoch of any run."""
        self._epochs_done += 1
        self._bar.update()

    def run_done(self, told: str) -> None:
        """Write a line about a run that has ended."""
        self._runs_done += 1
        rest = ""
        if self._runs_done < self._runs and self._epochs_done:
            elapsed = time.monotonic() - self._started
            left = elapsed / self._epochs_done * max(self._total_epochs - self._epochs_done, 0)
            rest = f"; about {tqdm.format_interval(left)} left"
        tqdm.write(f"[{self._runs_done}/{self._runs}] {told}{rest}")
        sys.stdout.flush()
