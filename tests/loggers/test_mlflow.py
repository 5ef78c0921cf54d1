"""MLflow with a local database."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_exp.config.identity import run_id, settings
from cifar_exp.config.schema import Logger, Paths, RunConfig, Training
from cifar_exp.data.settings import Synthetic
from cifar_exp.data.synthetic import load
from cifar_exp.inference.load import load_run
from cifar_exp.loggers import run_loggers
from cifar_exp.loggers.base import LoggedRun
from cifar_exp.loggers.mlflow import Mlflow
from cifar_exp.models.settings import Model
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.runner import Runner
from cifar_exp.signals import Interrupted
from cifar_exp.training.progress import EpochMetrics
from tests.conftest import read_rows
from tests.made import an_epoch

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]
TAGS = {"loss/train": "train_loss", "accuracy/test": "test_accuracy", "lr": "lr"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("mlflow")
    return RunConfig(
        data=Synthetic(train_size=64, test_size=20),
        model=Model(name="vgg11", width=1 / 16),
        training=Training(epochs=3),
        device="cpu",
        logger=Logger(mlflow=True, group="lr-0eb49b8fde"),
        paths=Paths(results=str(folder), logs=str(folder / "logs"), cache=str(folder)),
    )


@pytest.fixture(scope="module")
def client(config: RunConfig) -> Iterator[Any]:
    mlflow = pytest.importorskip("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(run_loggers, "SECONDS_TO_FINISH", 600)
        Path(config.paths.logs).mkdir()
        yield mlflow.MlflowClient(f"sqlite:///{config.paths.logs}/mlflow.db")


def runs(client: Any, config: RunConfig) -> list[Any]:
    experiment = client.get_experiment_by_name("cifar-exp").experiment_id
    found: list[Any] = client.search_runs([experiment], f"tags.run_id = '{run_id(config)}'")
    return found


def test_a_resumed_run_is_one_run_with_every_epoch_once(client: Any, config: RunConfig) -> None:
    first = Runner(threads=1)
    events = first.run(config)
    while not isinstance(next(events), EpochMetrics):
        pass
    with pytest.raises(Interrupted):
        events.throw(Interrupted(15))
    first.close()
    (run,) = runs(client, config)
    assert run.info.status == "KILLED"

    second = Runner(threads=1)
    for _ in second.run(config):
        pass
    second.close()
    (run,) = runs(client, config)
    rows = read_rows(RunFolder.of(config).path)
    assert run.info.status == "FINISHED"
    assert run.data.params == {key: str(value) for key, value in settings(config).items()}
    assert run.data.tags["group"] == "lr-0eb49b8fde"
    for tag, column in TAGS.items():
        curve = client.get_metric_history(run.info.run_id, tag)
        assert [(it.step, it.value) for it in curve] == [(r["epoch"], r[column]) for r in rows]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {
        *("config.yaml", "provenance.yaml", "metrics.jsonl", "model"),
        *("curves.png", "predictions.png", "confusion.png"),
    }


def test_the_model_has_a_signature_and_computes_the_logits_of_the_run(
    client: Any, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It uses the run of the test before."""
    from mlflow import pyfunc

    (logged,) = runs(client, config)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{config.paths.logs}/mlflow.db")
    model = pyfunc.load_model(f"runs:/{logged.info.run_id}/model")
    signature = model.metadata.signature
    assert [(spec.type.name, spec.shape) for spec in (*signature.inputs, *signature.outputs)] == [
        ("float32", (-1, 3, 32, 32)),
        ("float32", (-1, 10)),
    ]
    images = load(64, 20).test.images
    inputs = (images.permute(0, 3, 1, 2) / 255).contiguous().numpy()
    expected = load_run(RunFolder.of(config).path).logits(images)
    torch.testing.assert_close(torch.from_numpy(model.predict(inputs)), expected)


@pytest.mark.parametrize(("seed", "starts", "count"), [(1, "11", 1), (2, "12", 2), (3, "121", 2)])
def test_a_run_that_is_trained_again_from_its_start_is_a_new_run(
    client: Any, config: RunConfig, seed: int, starts: str, count: int
) -> None:
    repeated = config.model_copy(update={"seed": seed})
    for started in starts:
        run_logger = Mlflow()
        run_logger.begin(LoggedRun(repeated, {}, (), Path("missing"), started))
        run_logger.epoch(an_epoch(1))
        run_logger.end("complete", {})
    found = runs(client, repeated)
    assert len(found) == count
    for run in found:
        assert len(client.get_metric_history(run.info.run_id, "loss/train")) == 1
