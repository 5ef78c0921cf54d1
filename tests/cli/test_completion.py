"""Tab completion of both command lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandLine

PUBLISHED = ROOT / "multirun_results" / "published"


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("ta", ["table"]),
        (f"evaluate --results {PUBLISHED} ff28", ["ff286deb6d"]),
        (f"table --results {PUBLISHED} article-", ["article-4410ae6e87"]),
    ],
)
def test_subcommands_runs_and_sweeps_are_completed(
    tmp_path: Path, typed: str, completions: list[str]
) -> None:
    line, file = f"cifar-exp {typed}", tmp_path / "completions"
    variables = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    command = [sys.executable, "-m", "cifar_exp"]
    subprocess.run(command, env=os.environ | variables, check=False)
    assert file.read_text().split() == completions


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("epochs=1 optimizer=ad", {"optimizer=adam", "optimizer=adamw"}),
        ("optimizer.l", {"optimizer.lr="}),
    ],
)
def test_overrides_are_completed(train: CommandLine, typed: str, completions: set[str]) -> None:
    train.environment["COMP_LINE"] = f"python train.py {typed}"
    assert set(train("-sc", "query=bash").split()) == completions
