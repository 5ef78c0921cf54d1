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
def test_each_logger_has_one_line_for_all_runs(
    logger: Logger, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    configs = [RunConfig(logger=logger, paths=Paths(logs="my logs"), seed=i) for i in (0, 1)]
    assert pages(configs).splitlines() == expected
    of_finished = [line for line in expected if line.startswith("TensorBoard")]
    assert pages(configs, trained=False).splitlines() == of_finished


def test_a_server_that_the_environment_selects_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:password@example.org")
    configs = [RunConfig(logger=Logger(mlflow=True))]
    assert pages(configs) == "MLflow: the server of MLFLOW_TRACKING_URI\n"
