"""Code of the project that was changed, and packages that are not installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_terminal import DEMO

ADVICE = "Activate the environment of `pip install -e .`, or install the package."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project."""
    for name in ("cifar_exp", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", tmp_path)
    return tmp_path


def run(project: Path, *arguments: str, status: int = 1) -> str:
    """Run a command, check its exit status, and return its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    return done.stdout + done.stderr


@pytest.mark.integration
def test_a_missing_package_is_named_by_both_programs(project: Path) -> None:
    (project / "pydantic").mkdir()
    (project / "pydantic" / "__init__.py").write_text("import no_such_package\n")
    reason = (
        f"{project}/pydantic/__init__.py, line 1: No module named 'no_such_package'. {ADVICE}\n"
    )
    assert run(project, "train.py") == reason
    assert run(project, "-m", "cifar_exp", "ls") == reason


@pytest.mark.integration
def test_ctrl_c_during_the_imports_prints_no_traceback(project: Path) -> None:
    code = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    for package in ("hydra", "argcomplete"):
        (project / f"{package}.py").write_text(code)
    interrupted = run(project, "train.py", status=130)
    assert interrupted == "Interrupted. Run the same command again to resume.\n"
    assert run(project, "-m", "cifar_exp", "ls", status=130) == "Interrupted.\n"


@pytest.mark.integration
@pytest.mark.parametrize("options", [(), ("-m", "lr=0.1,0.2")], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("file", "code", "reason"),
    [
        ("training/step.py", "def x(\n", "line 1: '(' was never closed. Correct this line."),
        ("models/vgg.py", "import missing\n", f"line 1: No module named 'missing'. {ADVICE}"),
    ],
)
def test_a_line_of_the_project_that_cannot_be_imported_is_named(
    project: Path, options: tuple[str, ...], file: str, code: str, reason: str
) -> None:
    (project / "cifar_exp" / file).write_text(code)
    output = run(project, "train.py", *DEMO, "epochs=1", *options)
    assert output.endswith(f"{project}/cifar_exp/{file}, {reason}\n")
    assert "Traceback" not in output
