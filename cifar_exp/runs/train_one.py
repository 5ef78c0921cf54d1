"""Trains one run for `python train.py`, and prints its progress and outcome."""

import sys
from collections.abc import Callable

import torch
from tqdm import tqdm

from cifar_exp.config.identity import model_and_data, run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.errors import UserError
from cifar_exp.loggers.run_loggers import pages
from cifar_exp.paths import (
    CONFUSION_FILE,
    CURVES_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    WEIGHTS_FILE,
)
from cifar_exp.runs.continuing import shorter_run
from cifar_exp.runs.folder import RunFolder, in_epochs
from cifar_exp.runs.initial_weights import with_initial_weights
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.moved_images import changed_images, recognised
from cifar_exp.runs.preflight import preflight
from cifar_exp.runs.progress_bar import RunBar
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted, StopRequest, stop_request
from cifar_exp.terminal import is_first
from cifar_exp.training.process_group import OthersEndedError, ProcessGroup, all_processes
from cifar_exp.training.progress import Event, Events


def train_one(config: RunConfig, in_job: bool = False) -> None:
    """Train one run, and print its hardware, outcome and files.

    Args:
        config: checked settings.
        in_job: whether this is a job of a scheduler; see `stop_request`.

    Raises:
        UserError: the run failed, or another process trains it.
        Interrupted: a signal stopped the run after a checkpoint was saved.
    """
    config = with_initial_weights(config)
    show_warnings(tqdm.write if is_first() else lambda _: None)
    threads = torch.get_num_threads()
    with all_processes(config) as processes:
        try:
            if processes.rank == 0:
                _train_and_print(config, processes, in_job)
            else:
                _train_silently(config, processes)
        except (Interrupted, OthersEndedError):
            raise
        except Exception as error:
            processes.fail(str(error) if isinstance(error, UserError) else repr(error))
            raise
        finally:
            torch.set_num_threads(threads)  # a launcher may train the next run in this process


def _train_and_print(config: RunConfig, processes: ProcessGroup, in_job: bool) -> None:
    runner = Runner(processes=processes)
    # jobs are checked before they are submitted
    if not in_job and not Runner.finished(config, RunFolder.of(config)):
        (config,) = recognised([config])
        preflight([config])
    print(f"run {run_name(config)} ({run_id(config)})", flush=True)
    if not in_job:
        training = f"{model_and_data(config)}, {in_epochs(config.training.epochs)}"
        print(f"{training}, {runner.compute(config)}", flush=True)
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
    if not trained:
        for line in changed_images([(config, folder)]):
            print(line)
        print("finished before, not repeated; rerun=true repeats it")
    print(folder.outcome())
    print(folder.path)
    names = (CURVES_FILE, PREDICTIONS_FILE, CONFUSION_FILE, WEIGHTS_FILE, METRICS_FILE)
    print(", ".join(name for name in names if (folder.path / name).exists()))
    print(pages([config], trained), end="")


def _train_silently(config: RunConfig, processes: ProcessGroup) -> None:
    """Train together with rank 0, which prints and writes everything."""
    try:
        with stop_request(patient=True) as stop:
            _drive(Runner(processes=processes).take_part(config), stop, processes, lambda _: None)
    except Interrupted as interruption:
        sys.exit(interruption.exit_status)


def _drive(
    run: Events, stop: StopRequest, processes: ProcessGroup, show: Callable[[Event], None]
) -> bool:
    """Train to the end or until a signal. Returns whether the run was trained."""
    try:
        while True:
            show(next(run))
            # a signal to one process stops all of them at the same step
            if number := processes.all_reduce_max(stop.signal_number):
                run.throw(Interrupted(number))
    except StopIteration as end:
        return bool(end.value)
