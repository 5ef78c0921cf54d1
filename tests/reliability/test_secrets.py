"""Values of environment variables are not written to the files of runs and sweeps."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cifar_exp.config.schema import RunConfig
from tests.conftest import CommandLine, read_state

pytestmark = pytest.mark.integration
TOKEN = "s3cr3t-folder"
SETTINGS = (
    "data=image_folder",
    "data.root=${oc.env:PLACE}/photos",
    "paths.results=${oc.env:PLACE}/results",
    "paths.logs=${oc.env:PLACE}/logs",
    "paths.cache=${oc.env:PLACE}/cache",
    "model=vgg11",
    "model.width=0.0625",
    "device=cpu",
    "batch_size=4",
    "training.epochs=1",
)
STUDY = {
    "name": "mine",
    "title": "On ${oc.env:PLACE}",
    "question": "Is it ${oc.env:PLACE}?",
    "vary": {"lr": [0.01, 0.001]},
    "seeds": [0],
}


@pytest.fixture
def secret_folder(train: CommandLine) -> Path:
    """A folder with a secret name that contains an image folder."""
    secret_folder = train.folder / TOKEN
    train.environment["PLACE"] = str(secret_folder)
    colors = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a", "test/b"):
        folder = secret_folder / "photos" / name
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = colors.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return secret_folder


def files_with_the_secret(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_failed_run_writes_no_secret(train: CommandLine, secret_folder: Path) -> None:
    (secret_folder / "photos" / "train" / "a" / "bad.png").write_bytes(b"no image")
    assert "bad.png" in train(*SETTINGS, status=1)
    (run,) = (secret_folder / "results" / "runs").iterdir()
    assert "${oc.env:PLACE}/photos/train/a/bad.png" in read_state(run)["reason"]
    assert "Traceback" in (run / "train.log").read_text()
    assert files_with_the_secret(train.folder) == []


@pytest.mark.parametrize("launcher", ["packed", "basic"])
def test_a_sweep_writes_no_secret(train: CommandLine, secret_folder: Path, launcher: str) -> None:
    train("-m", *SETTINGS, "seed=0,1", f"hydra/launcher={launcher}")
    runs = list((secret_folder / "results" / "runs").iterdir())
    assert [read_state(run)["status"] for run in runs] == ["complete"] * 2
    for run in runs:
        config = RunConfig.model_validate(
            yaml.safe_load((run / "config.yaml").read_text()), strict=False
        )
        assert config.data.root == "${oc.env:PLACE}/photos"
    assert list((secret_folder / "logs").rglob("events*"))
    assert files_with_the_secret(train.folder) == []


@pytest.mark.slow
def test_a_study_writes_no_secret(train: CommandLine, secret_folder: Path) -> None:
    (train.folder / "study").mkdir()
    (train.folder / "study" / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    train("--config-dir", str(train.folder), "study=mine", *SETTINGS)
    (report,) = (secret_folder / "results").glob("mine-*/report.html")
    assert "Is it ${oc.env:PLACE}?" in report.read_text()
    assert files_with_the_secret(train.folder) == []
