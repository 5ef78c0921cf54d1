"""The article's loop in Ray Tune, a CPU for each run: `ray_tune.py IMAGES RUNS EPOCHS WIDTH`."""

import os
import sys
from pathlib import Path

import ray
from article import train
from ray import tune


def main(images: str, runs: int, epochs: int, width: float) -> None:
    """Train all runs, as many at a time as there are CPUs."""

    def trainable(config: dict[str, int]) -> dict[str, float]:
        return {"accuracy": train(images, config["seed"], epochs, width)}

    ray.init(
        num_cpus=os.cpu_count(),
        runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}},
        include_dashboard=False,
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"seed": tune.grid_search(list(range(runs)))},
        run_config=tune.RunConfig(storage_path=str(Path("ray").absolute())),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(str(results.errors[0]))
    print([result.metrics["accuracy"] for result in results])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
