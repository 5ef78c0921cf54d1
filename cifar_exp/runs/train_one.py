"""`python train.py`: one run, told to the person who started it."""

import sys
from collections.abc import Callable, Generator

from tqdm import tqdm

from cifar_exp.config.identity import model_and_data, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.expressions import as_path
from cifar_exp.paths import (
    CONFUSION_FILE,
    CURVES_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    WEIGHTS_FILE,
)
from cifar_exp.runs.continuing import shorter_run
from cifar_exp.runs.folder import RunFolder, in_epochs
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.moved_images import recognised
from cifar_exp.runs.preflight import preflight
from cifar_exp.runs.progress_bar import RunBar
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted, StopRequest, stop_request
from cifar_exp.terminal import is_first
from cifar_exp.training.process_group import OthersEndedError, ProcessGroup, all_processes
from cifar_exp.training.progress import EpochMetrics, Progress

Event = Progress | EpochMetrics
Run = Generator[Event, None, bool]


def train_one(config: RunConfig, in_job: bool = False) -> None:
    """Train one run, and say what it takes, how it ended and where everything is.

    Args:
        config: checked settings.
        in_job: whether a scheduler's process does it; see `stop_request`.

    Raises:
        UserError: it failed, or another process trains it.
        Interrupted: a signal asked to stop, and what was trained is saved.
    """
    show_warnings(tqdm.write if is_first() else lambda _: None)
    with all_processes(config) as processes:
        try:
            if processes.rank == 0:
                _train_and_tell(config, processes, in_job)
            else:
                _compute_beside_first(config, processes)
        except (Interrupted, OthersEndedError):
            raise
        except Exception as error:
            processes.fail(str(error) if isinstance(error, UserError) else repr(error))
            raise


def _train_and_tell(config: RunConfig, processes: ProcessGroup, in_job: bool) -> None:
    runner = Runner(processes=processes)
    # a job was checked before, and keeps in its folder what fails
    if not in_job and not Runner.finished(config, RunFolder.of(config)):
        (config,) = recognised([config])
        preflight([config])
    print(f"run {run_name(config)} ({run_id(config)})", flush=True)
    if not in_job:
        what = f"{model_and_data(config)}, {in_epochs(config.training.epochs)}"
        print(f"{what}, {runner.compute(config)}", flush=True)
    folder = RunFolder.of(config)
    is_new = folder.status == "pending" and not config.rerun
    if is_new and (shorter := shorter_run(config)):
        print(shorter, flush=True)
    bar = RunBar("training", position=0, evaluated_on=config.data.evaluated_on)
    try:
        with stop_request(patient=not processes.alone, in_job=in_job) as stop:
            trained = _drive(runner.run(config), stop, processes, bar.show)
    finally:
        bar.close()
        runner.close()
    print(
        folder.outcome() + " (finished before, not repeated; rerun=true repeats it)" * (not trained)
    )
    names = (CURVES_FILE, PREDICTIONS_FILE, CONFUSION_FILE, WEIGHTS_FILE, METRICS_FILE)
    written = [name for name in names if (folder.path / name).exists()]
    print(folder.path)
    print(", ".join(written))
    if config.logger.tensorboard:
        print(f"TensorBoard: tensorboard --logdir={as_path(config.paths.logs)}")


def _compute_beside_first(config: RunConfig, processes: ProcessGroup) -> None:
    """Take part in a run without a word: the first process tells and keeps everything."""
    try:
        with stop_request(patient=True) as stop:
            _drive(Runner(processes=processes).take_part(config), stop, processes, lambda _: None)
    except Interrupted as interruption:
        sys.exit(interruption.exit_status)


def _drive(
    run: Run, stop: StopRequest, processes: ProcessGroup, show: Callable[[Event], None]
) -> bool:
    """Run to the end, or to the next step once asked to stop. Returns: whether it was trained."""
    try:
        while True:
            show(next(run))
            # one is asked, and all stop at the same step
            if asked := processes.all_reduce_max(stop.signal_number):
                run.throw(Interrupted(asked))
    except StopIteration as end:
        return bool(end.value)
