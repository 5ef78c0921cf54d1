"""`python train.py`: one run, told to the person who started it."""

from tqdm import tqdm

from cifar_exp.config.identity import run_id, run_name
from cifar_exp.config.paths import as_path
from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder, in_epochs
from cifar_exp.runs.log import show_warnings
from cifar_exp.runs.preflight import preflight
from cifar_exp.runs.progress import RunBar
from cifar_exp.runs.runner import Runner
from cifar_exp.runs.stopping import Interrupted, StopRequest, stop_request
from cifar_exp.runs.trackers.hparams import declare
from cifar_exp.training.device import choose_compute


def train_one(config: RunConfig) -> None:
    """Train one run, and say what it takes, how it ended and where everything is."""
    show_warnings(tqdm.write)
    preflight([config])
    declare([config])
    what = f"{config.model.name} on {config.data.name}, {in_epochs(config.training.epochs)}"
    print(f"run {run_name(config)} ({run_id(config)})")
    print(f"{what}, {choose_compute(config)}", flush=True)
    with stop_request() as stop:
        trained = _train(config, stop)
    folder = RunFolder.of(config)
    print(folder.outcome() + " (finished before, not repeated)" * (not trained))
    names = ("curves.png", "predictions.png", "confusion.png", "model.safetensors", "metrics.jsonl")
    written = [name for name in names if (folder.path / name).exists()]
    print(f"{folder.path}: {', '.join(written)}")
    if config.logger.tensorboard:
        print(f"tensorboard --logdir={as_path(config.paths.logs)}")


def _train(config: RunConfig, stop: StopRequest) -> bool:
    """Run to the end, or to the next step once asked to stop. Returns: whether it was trained."""
    runner = Runner()
    run = runner.run(config)
    bar = RunBar("training", position=0)
    try:
        while True:
            bar.show(next(run))
            try:
                stop()
            except Interrupted as interruption:
                run.throw(interruption)
    except StopIteration as end:
        return bool(end.value)
    finally:
        bar.close()
        runner.close()
