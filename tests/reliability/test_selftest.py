"""`python -m cifar_exp selftest`: its table, and that it notices what is broken."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_exp.selftest.faults import FAULTS
from tests.conftest import ROOT


def selftest(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "cifar_exp", "selftest", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere some faults are not possible")
@pytest.mark.slow
def test_every_fault_is_provoked_and_no_promise_is_broken(tmp_path: Path) -> None:
    done = selftest(ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(FAULTS)} faults, 0 promises broken" in done.stdout
    assert "not possible" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert not list(tmp_path.iterdir())  # nothing is left


# What is broken in a copy of the package, and in which row of the table it must show.
BROKEN = {
    6: ("cifar_exp/runs/checkpoint.py", "if expected != sha256(path):", "if False:"),
    10: ("cifar_exp/training/progress.py", "loss > _EXPLODED", "False and loss > _EXPLODED"),
    14: ("cifar_exp/runs/checkpoint.py", "weights_only=True", "weights_only=False"),
}


@pytest.mark.slow
@pytest.mark.parametrize("row", BROKEN)
def test_a_broken_promise_is_noticed_and_told(tmp_path: Path, row: int) -> None:
    copy = tmp_path / "copy"
    for name in ("cifar_exp", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "train.py", copy)
    name, good, bad = BROKEN[row]
    text = (copy / name).read_text()
    assert good in text
    (copy / name).write_text(text.replace(good, bad))
    done = selftest(copy, tmp_path, "--only", str(row))
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
    assert re.search(r"faults, [12] promises? broken; ", done.stdout)
    assert "selftest --only ROW` repeats one" in done.stdout


def test_an_unknown_row_and_a_folder_that_is_not_there_are_told_in_a_line(tmp_path: Path) -> None:
    for arguments, told in ((("--only", "99"), "expected some of 1, 2"), (("nowhere",), "nowhere")):
        done = selftest(ROOT, tmp_path, *arguments)
        assert done.returncode == 1
        assert told in done.stderr
        assert len(done.stderr.splitlines()) == 1
