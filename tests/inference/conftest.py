"""A trained run for all tests of inference."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY, CommandLine


class Trained:
    """A command line in a folder with a trained run."""

    def __init__(self, train: CommandLine) -> None:
        self.cifar_exp = train.cifar_exp
        self.folder = train.folder
        self.results = train.folder / "multirun_results"
        self.run = train.only_run

    def read_json(self, name: str) -> Any:
        return json.loads((self.run / name).read_text())

    def delete_sums(self) -> None:
        """Delete the sha256 sums, so that changed files are accepted."""
        state = self.read_json("run.json")
        del state["sha256"]
        self.write_json("run.json", state)

    def write_json(self, name: str, content: Any) -> None:
        (self.run / name).write_text(json.dumps(content))


# All settings that change the evaluation.
SETTINGS = (
    *TINY,
    "data.normalize=channels",
    "data.test_flip=true",
    "data.limit_test=60",
    "precision=fp32",
)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, command_line: Any) -> CommandLine:
    train: CommandLine = command_line(tmp_path_factory.mktemp("trained"))
    train(*SETTINGS)
    return train


@pytest.fixture
def trained(once: CommandLine, tmp_path: Path, command_line: Any) -> Trained:
    """Copy the trained run, so that the test may change it."""
    shutil.copytree(once.folder / "multirun_results", tmp_path / "multirun_results")
    return Trained(command_line(tmp_path))
