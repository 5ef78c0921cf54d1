"""MLflow: a local database, or a server that is set in the environment."""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cifar_exp.config.identity import settings
from cifar_exp.expressions import as_path
from cifar_exp.files import read_text
from cifar_exp.loggers.base import Kind, LoggedRun, scalars
from cifar_exp.paths import (
    CONFIG_FILE,
    CONFUSION_FILE,
    CURVES_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    WEIGHTS_FILE,
)
from cifar_exp.training.progress import EpochMetrics

_DATABASE = "mlflow.db"
_ARTIFACTS = "mlartifacts"
_FILES = (CURVES_FILE, PREDICTIONS_FILE, CONFUSION_FILE, METRICS_FILE)
_MODEL_FILES = (CONFIG_FILE, MODEL_FILE, WEIGHTS_FILE)
_LOADER = "cifar_exp.inference.mlflow_model"
_STATUSES = {"complete": "FINISHED", "interrupted": "KILLED"}  # others are FAILED


class Mlflow:
    """Logs a run to MLflow. Tags have the run's id and start, by which a resumed run is found."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id: str | None = None
        self._folder = Path()
        self._stored: set[int] = set()  # epochs; an epoch that is logged twice is shown twice

    def begin(self, run: LoggedRun) -> None:
        """See `RunLogger`."""
        _silence()
        from mlflow import MlflowClient

        self._folder = run.folder
        logs = as_path(run.config.paths.logs).absolute()
        is_local = not os.environ.get("MLFLOW_TRACKING_URI")
        logs.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(f"sqlite:///{logs / _DATABASE}" if is_local else None)
        artifacts = (logs / _ARTIFACTS).as_uri() if is_local else None
        experiment = self._experiment(run.config.logger.project, artifacts)
        same = f"tags.run_id = '{run.run_id}' and tags.started = '{run.started}'"
        if found := self._client.search_runs([experiment], same):
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(experiment, run_name=run.name).info.run_id
        self._describe(run)
        history = self._client.get_metric_history(self._id, "loss/train")
        self._stored = {metric.step for metric in history}
        for metrics in run.history:
            self.epoch(metrics)

    def epoch(self, metrics: EpochMetrics) -> None:
        """See `RunLogger`; epochs that are stored are skipped."""
        from mlflow.entities import Metric

        if metrics.epoch in self._stored:
            return
        now = int(time.time() * 1000)
        values = scalars(metrics).items()
        logged = [Metric(tag, value, now, metrics.epoch) for tag, value in values]
        self._client.log_batch(self._id, metrics=logged)

    def end(self, status: str, images: Mapping[str, Path]) -> None:
        """See `RunLogger`; figures and the model are stored as artifacts."""
        if self._id is None:
            return
        try:
            for name in _FILES:
                if (self._folder / name).is_file():
                    self._client.log_artifact(self._id, self._folder / name)
            if (self._folder / WEIGHTS_FILE).is_file():
                self._log_model()
            self._client.set_tag(self._id, "status", status)
        finally:
            self._client.set_terminated(self._id, _STATUSES.get(status, "FAILED"))

    def _log_model(self) -> None:
        """Log the network as a model of MLflow, which `mlflow_model` loads."""
        import numpy as np
        from mlflow import pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        description = json.loads(read_text(self._folder / MODEL_FILE))
        side, classes = description["image_size"], len(description["classes"])
        float32 = np.dtype("float32")
        signature = ModelSignature(
            Schema([TensorSpec(float32, (-1, 3, side, side))]),
            Schema([TensorSpec(float32, (-1, classes))]),
        )
        model = Model(artifact_path="model", run_id=self._id, signature=signature)
        pyfunc.add_to_model(model, loader_module=_LOADER, data="data")
        for name in _MODEL_FILES:
            self._client.log_artifact(self._id, self._folder / name, "model/data")
        self._client.log_text(self._id, model.to_yaml(), "model/MLmodel")
        # MLflow's page shows the signature of models that this tag lists
        models = json.dumps([model.get_tags_dict()])
        self._client.set_tag(self._id, "mlflow.log-model.history", models)

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """Return the id of an experiment, which is created unless another process has done so."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.create_experiment(name, artifacts))
        except MlflowException:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)

    def _describe(self, run: LoggedRun) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, str(value)) for key, value in settings(run.config).items()]
        tags = {
            "run_id": run.run_id,
            "config_id": run.config_id,
            "started": run.started,
            "group": run.config.logger.group,
            # the names that MLflow's page shows as columns
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": run.provenance.get("command"),
            "mlflow.source.git.commit": run.provenance.get("commit"),
        }
        known = [RunTag(key, value) for key, value in tags.items() if value]
        self._client.log_batch(self._id, params=params, tags=known)
        self._client.log_text(self._id, run.as_yaml, CONFIG_FILE)
        self._client.log_dict(self._id, run.provenance, "provenance.yaml")


def _silence() -> None:
    """Disable MLflow's usage statistics and its messages about the database."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)


LOGGER = Kind(
    Mlflow,
    title="MLflow",
    package="mlflow",
    page=f"mlflow ui --backend-store-uri sqlite:///{{logs}}/{_DATABASE}",
    servers=("MLFLOW_TRACKING_URI",),
)
