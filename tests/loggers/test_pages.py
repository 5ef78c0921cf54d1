"""The lines on how to open the pages of the loggers."""

import pytest

from cifar_exp.config.schema import Logger, Paths, RunConfig
from cifar_exp.loggers.run_loggers import pages


@pytest.mark.parametrize(
    ("logger", "expected"),
    [
        (Logger(), []),
        (Logger(tensorboard=True), ["TensorBoard: tensorboard --logdir='my logs'"]),
        (
            Logger(mlflow=True, trackio=True, project="mine"),
            [
                "MLflow: mlflow ui --backend-store-uri sqlite:///'my logs'/mlflow.db",
                "Trackio: trackio show --project mine",
            ],
        ),
    ],
)
def test_each_logger_has_one_line_for_all_runs(logger: Logger, expected: list[str]) -> None:
    configs = [RunConfig(logger=logger, paths=Paths(logs="my logs"), seed=i) for i in (0, 1)]
    assert pages(configs).splitlines() == expected
