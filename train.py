"""Train one run, or with -m a sweep of runs: `python train.py -m lr=0.1,0.01,0.001`."""

import os
import sys
from collections.abc import Callable

from cifar_exp.errors import import_problem
from cifar_exp.signals import RESUME, Interrupted, exit_on_signal, exit_process

if __name__ == "__main__":
    exit_on_signal()  # until there is something to save
try:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from cifar_exp.cli import command_line, error_messages
    from cifar_exp.cli.single_run import train
    from cifar_exp.config.load import trains_a_run
    from cifar_exp.terminal import keep_output, print_error
except (ImportError, SyntaxError) as error:
    sys.exit(import_problem(error))


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
@trains_a_run
def run(composed: DictConfig) -> None:
    """Train the run that Hydra has composed."""
    if HydraConfig.get().mode is hydra.types.RunMode.MULTIRUN:  # a job of hydra/sweeper=basic
        train(composed)
    else:  # Hydra changes exceptions, but not an exit
        exit_process(exit_status(lambda: train(composed)))


def exit_status(action: Callable[[], object]) -> int:
    """Call a function, report errors in one or two lines, and return the exit status."""
    try:
        action()
    except (Interrupted, KeyboardInterrupt) as stop:
        print(f"Interrupted. {getattr(stop, 'advice', RESUME)}", file=sys.stderr)
        return getattr(stop, "exit_status", 130)
    except Exception as error:
        if (message := error_messages.explain(error)) is None or shows_tracebacks:
            raise
        print_error(message)
        return 1
    return 0


def main() -> None:
    """Run Hydra with the translated command line."""
    with command_line.adapted_hydra(sys.argv[1:]) as sys.argv[1:]:
        run()


if __name__ == "__main__":
    keep_output()
    shows_tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises errors, and this file reports them
    sys.exit(exit_status(main))
