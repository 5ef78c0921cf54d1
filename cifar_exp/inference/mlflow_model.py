"""Load a network that was logged to MLflow: `mlflow.pyfunc.load_model("runs:/ID/model")`."""

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from cifar_exp.config.load import from_yaml
from cifar_exp.files import read_text
from cifar_exp.inference.load import TrainedRun, load_files
from cifar_exp.paths import CONFIG_FILE
from cifar_exp.training.step import predict_logits


class MlflowModel:
    """A network with the interface of MLflow's models."""

    def __init__(self, run: TrainedRun) -> None:
        self._run = run

    def predict(self, images: NDArray[Any], params: Any = None) -> NDArray[Any]:
        """Compute logits.

        Args:
            images: RGB in [0, 1], float32.
            params: MLflow's parameters; unused.

        Shape:
            images `(N, 3, H, W)`, result `(N, classes)`.
        """
        run = self._run
        inputs = (torch.from_numpy(images) - run.mean) / run.std
        with torch.no_grad():
            logits = predict_logits(run.model, inputs, run.compute, run.config.data.test_flip)
        return logits.numpy()


def _load_pyfunc(folder: str) -> MlflowModel:
    """Return the network in a folder; MLflow calls this function by its name."""
    config = from_yaml(read_text(Path(folder) / CONFIG_FILE))
    return MlflowModel(load_files(Path(folder), config))
