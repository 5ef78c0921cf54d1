"""`python train.py`: one run, told to the person who started it."""

from cifar_exp.config.identity import run_id, run_name
from cifar_exp.config.schema import RunConfig
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.progress import show_warnings
from cifar_exp.runs.runner import Runner, preflight
from cifar_exp.runs.stopping import stop_request
from cifar_exp.training.device import choose_compute


def train_one(config: RunConfig) -> None:
    """Train one run, and say what it takes, how it ended and where everything is."""
    show_warnings()
    preflight(config)
    what = f"{config.model.name} on {config.data.name}, {_epochs(config.training.epochs)}"
    print(f"run {run_name(config)} ({run_id(config)})")
    print(f"{what}, {choose_compute(config)}", flush=True)
    with stop_request() as stop:
        trained = Runner(stop).run(config, label="training")
    folder = RunFolder.of(config)
    print(outcome(folder) + " (finished before, not repeated)" * (not trained))
    names = ("curves.png", "predictions.png", "model.safetensors", "metrics.jsonl")
    written = [name for name in names if (folder.path / name).exists()]
    print(f"{folder.path}: {', '.join(written)}")
    if config.logger.tensorboard:
        print(f"tensorboard --logdir={config.paths.logs}")


def outcome(folder: RunFolder) -> str:
    """Return the status and numbers of a run that has ended, in a line."""
    state = folder.read_state()
    if state["test_accuracy"] is None:
        return f"{state['status']} in epoch {state['epochs']}, {state['seconds']:.0f} s"
    return (
        f"{state['status']}: test accuracy {state['test_accuracy']:.4f} after "
        f"{_epochs(state['epochs'])} (best {state['best_test_accuracy']:.4f}), "
        f"{state['seconds']:.0f} s"
    )


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number > 1)}"
