"""Any command line trains a run or prints a few lines that say what is wrong."""

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as options

from cifar_exp.__main__ import main
from tests.processes import Finished, run_command
from tests.reliability.mistakes import BASE, BASIC, commands

INFORMS = {
    "--cf",
    "--cfg",
    "--info",
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--shell-completion",
    "-sc",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which commands are called. Its parent must stay empty otherwise."""
    return tmp_path_factory.mktemp("outside") / "inside"


def make(folder: Path) -> None:
    """Create the folder with a file, an empty folder and an unreadable one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "file").write_text("text")
    (folder / "empty").mkdir()
    (folder / "closed").mkdir(mode=0)  # root can read it


def call(folder: Path, arguments: list[str]) -> Finished:
    """Run train.py in the folder, and check what holds for every command."""
    make(folder)
    done = run_command(*arguments, cwd=folder)
    output = done.out + done.err
    assert done.status is not None, "still running"
    assert "Traceback" not in output, output[-3000:]
    assert list(folder.parent.iterdir()) == [folder]
    if done.status:
        # the output of --info and the table of a sweep do not count as messages
        has_output = "--info" in arguments or done.out.startswith("sweep of ")
        messages = (done.err if has_output else output).strip().splitlines()
        assert done.status in (1, 2)
        assert 1 <= len(messages) <= 5, output[-3000:]
    return done


def check(folder: Path, arguments: list[str]) -> None:
    done = call(folder, arguments)
    if done.status:
        return
    if INFORMS & set(arguments):
        assert done.out.strip()
        return
    states = [json.loads(file.read_text())["status"] for file in folder.rglob("run.json")]
    assert states
    assert set(states) <= {"complete", "diverged"}


@pytest.mark.integration
@options(max_examples=8, derandomize=True, deadline=None, database=None)
@given(commands([BASIC]))
def test_any_command_runs_or_reports_what_is_wrong(folder: Path, arguments: list[str]) -> None:
    check(folder, arguments)


@pytest.mark.slow
@options(max_examples=2000, deadline=None, database=None)
@given(commands([BASIC, BASIC, ["-m"], ["--multirun"]]))
def test_any_of_2000_commands_runs_or_reports_what_is_wrong(
    folder: Path, arguments: list[str]
) -> None:
    check(folder, arguments)


MISTAKES = {
    # sizes
    "data.batch_size=21": "data.batch_size: expected at most the 20 training images, got 21",
    "model.width=0.001": "model.width: expected a number greater than or equal to 0.015625",
    "data.train_size=0": "data.train_size: expected a number greater than or equal to 10, got 0",
    "data.limit_train=0": "data.limit_train: expected a number greater than or equal to 1, got 0",
    "data.limit_test=9": "data.limit_test=9: expected at least 10, the number of classes",
    "data.cutout=513": "data.cutout: expected a number less than or equal to 512, got 513",
    # empty values
    "lr=": "lr=: expected a number or one of article, high, low, too_high",
    "-m lr=": "lr=: expected a number or one of article, high, low, too_high",
    "seed=[]": "seed: expected an integer, got []",
    "optimizer.betas=[]": "optimizer.betas.0: missing value",
    "~optimizer": "~optimizer: cannot be removed, since every run needs it",
    "~optimizer.name": "optimizer.name: missing value; set optimizer=OPTION",
    # sweeps of nothing, and of too much
    "-m lr=glob(x*)": "matches no option of lr",
    "-m seed=range(1,1)": "the sweep has no runs; check its lists and globs",
    "-m hydra/launcher=basic seed=range(1,1)": "the sweep has no runs; check its lists and globs",
    "-m seed=range(1000000000)": "the sweep has 1,000,000,000 runs: expected at most 10,000",
    "-m seed=range(0,1e9)": "the sweep has 1,000,000,000 runs: expected at most 10,000",
    "-m seed=range(0,200) epochs=range(0,200)": "the sweep has 40,000 runs: expected at most",
    "-m lr=range(0,inf)": "the sweep has infinitely many runs: expected at most 10,000",
    "-m seed=range(0,1,0)": "the sweep has infinitely many runs: expected at most 10,000",
    "-m lr=interval(0,1)": "an interval needs a search, hydra/sweeper=optuna",
    "-m hydra.sweeper.max_batch_size=0 seed=0,1": "expected null or a number above 0, got 0",
    # options of Hydra
    "hydra/launcher=nope": "hydra/launcher=nope: expected one of basic, packed, ray",
    "hydra.launcher.foo=1": "hydra.launcher.foo: unknown setting",
    "n_trials=4": "n_trials: unknown setting; did you mean hydra.sweeper.n_trials?",
    "runs_per_device=2": "unknown setting; did you mean hydra.launcher.runs_per_device?",
    "-m hydra.launcher.runs_per_device=0": "expected auto or an integer of at least 1, got 0",
    "--config-name nope": "nope.yaml: not found in the configuration folders",
    "--config-dir nowhere": "inside/nowhere' not found",
    "--config-path /nowhere": "Primary config directory not found",
    "--cfg nonsense": "invalid choice: 'nonsense' (choose from 'job', 'hydra', 'all')",
    "--cfg": "argument --cfg/-c: expected one argument",
    "--resolve": "can only be used in conjunction with --cfg",
    "-sc query=bash": "COMP_LINE",
    "--allow": "--allow: expected one argument",
    # too long or invalid text
    f"seed={'9' * 5000}": "Exceeds the limit (4300 digits) for integer string conversion",
    f"{'x' * 100_000}=1": "File name too long",
    f"paths.logs={'x' * 300}": "File name too long",
    "paths.results='\udcff'": "expected valid UTF-8",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[:40])
def test_a_common_mistake_is_reported(folder: Path, mistake: str) -> None:
    done = call(folder, [*BASE, *mistake.split(" ")])
    assert done.status
    assert MISTAKES[mistake] in done.out + done.err
    assert not list(folder.rglob("run.json"))


@pytest.mark.integration
@pytest.mark.parametrize(
    "valid",
    [
        "~data.test_flip",
        "scheduler.milestones=[]",
        "--info",
        "model.dropout=0.999999999999",
        "lr=1e30",
        "optimizer.eps=1e-300",
        "paths.results= paths.logs=",
        "seed=9223372036854775807",
    ],
)
def test_unusual_but_valid_settings_are_trained(folder: Path, valid: str) -> None:
    arguments = [*BASE, *valid.split(" ")]
    check(folder, arguments)
    assert list(folder.rglob("run.json")) or "--info" in arguments


COMMANDS = (
    ["table"],
    ["table", "--latex"],
    ["report"],
    ["report", "--check"],
    ["compare"],
    ["check-data", "--image-size", "64"],
    ["ls", "--sort", "size", "--results"],
    ["gc", "--yes", "--results"],
    ["predict", "--grid", "4"],
    ["evaluate"],
    ["export"],
)
WRONG_OPTIONS = (
    [],
    [""],
    ["nonsense"],
    ["--nonsense"],
    ["table", "--markdown", "--latex", "."],
    ["check-data", "--image-size", "31"],
    ["check-data", "--image-size", "1e3"],
    ["check-data", "--image-size"],
    ["doctor", "--results"],
    ["doctor", "nowhere"],
    ["predict", "."],
    ["predict", ".", "--grid", "0"],
    ["evaluate", ".", "seed=1"],
    ["export", ".", "--format", "pickle"],
)
ARGUMENTS = {
    "none": [],
    "a missing folder": ["nowhere"],
    "a file": ["file"],
    "an empty folder": ["empty"],
    "an unreadable folder": ["closed"],
    "an empty word": [""],
    "the current folder": ["."],
    "a long word": ["x" * 5000],
    "two missing folders": ["nowhere", "elsewhere"],
    "an unknown option": ["--nonsense", "nowhere"],
    "control characters": ["\x1b[2J\x01"],
    "invalid UTF-8": ["\udcff"],
}


def command_status(folder: Path, arguments: list[str]) -> int:
    """Call `python -m cifar_exp` in this process, check its output, and return its status."""
    make(folder)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["cifar_exp", *arguments])
        patch.setattr(sys, "stdout", printed)  # main() replaces both
        patch.setattr(sys, "stderr", printed)
        try:
            status = main()
        except SystemExit as end:  # of argparse
            status = int(end.code or 0)
    text = printed.getvalue()
    assert list(folder.parent.iterdir()) == [folder]
    assert "Traceback" not in text
    assert "\x1b" not in text
    lists_problems = "\nproblems: " in text  # check-data of a folder with class folders
    assert status == 0 or lists_problems or 1 <= len(text.strip().splitlines()) <= 5, text[-3000:]
    return status


@pytest.mark.parametrize("given", ARGUMENTS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_reports_wrong_arguments(folder: Path, command: list[str], given: str) -> None:
    valid = (
        "none",
        "the current folder",
        "an empty word",
        "an empty folder",
        "an unreadable folder",
    )
    if command[0] in ("ls", "gc") and given in valid:
        pytest.skip("valid")
    assert command_status(folder, [*command, *ARGUMENTS[given]]) in (1, 2)


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=lambda wrong: " ".join(wrong)[:40])
def test_an_unknown_command_or_a_wrong_option_is_refused(folder: Path, wrong: list[str]) -> None:
    assert command_status(folder, wrong) in (1, 2)
