"""Whatever is typed ends in a run, or in a few lines that say what is wrong: no traceback."""

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
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands are called, in a folder in which nothing else may appear."""
    return tmp_path_factory.mktemp("outside") / "inside"


def make(place: Path) -> None:
    """Make a folder with little in it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "file").write_text("no folder")
    (place / "empty").mkdir()
    (place / "closed").mkdir(mode=0)  # to all but the administrator


def call(place: Path, arguments: list[str]) -> Finished:
    """Run train.py in such a folder; what must hold for every command is checked."""
    make(place)
    done = run_command(*arguments, cwd=place)
    said = done.out + done.err
    assert done.status is not None, "still running"
    assert "Traceback" not in said, said[-3000:]
    assert list(place.parent.iterdir()) == [place]
    if done.status:
        # what --info has shown before it failed is no message, nor is the table of a sweep
        shown = "--info" in arguments or done.out.startswith("sweep of ")
        told = (done.err if shown else said).strip().splitlines()
        assert done.status in (1, 2)
        assert 1 <= len(told) <= 5, said[-3000:]
    return done


def check(place: Path, arguments: list[str]) -> None:
    done = call(place, arguments)
    if done.status:
        return
    if INFORMS & set(arguments):
        assert done.out.strip()
        return
    states = [json.loads(file.read_text())["status"] for file in place.rglob("run.json")]
    assert states
    assert set(states) <= {"complete", "diverged"}


@pytest.mark.integration
@options(max_examples=8, derandomize=True, deadline=None, database=None)
@given(commands([BASIC]))
def test_any_command_runs_or_tells_what_is_wrong(place: Path, arguments: list[str]) -> None:
    check(place, arguments)


@pytest.mark.slow
@options(max_examples=2000, deadline=None, database=None)
@given(commands([BASIC, BASIC, ["-m"], ["--multirun"]]))
def test_any_command_runs_or_tells_what_is_wrong_at_length(
    place: Path, arguments: list[str]
) -> None:
    check(place, arguments)


MISTAKES = {
    # sizes
    "data.batch_size=21": "data.batch_size: expected at most the 20 training images, got 21",
    "model.width=0.001": "model.width: expected a number greater than or equal to 0.015625",
    "data.train_size=0": "data.train_size: expected a number greater than or equal to 10, got 0",
    "data.limit_train=0": "data.limit_train: expected a number greater than or equal to 1, got 0",
    "data.limit_test=9": "data.limit_test=9: expected at least 10, the number of classes",
    "data.cutout=513": "data.cutout: expected a number less than or equal to 512, got 513",
    # nothing
    "lr=": "lr=: expected a number or one of article, high, low, too_high",
    "-m lr=": "lr=: expected a number or one of article, high, low, too_high",
    "seed=[]": "seed: expected an integer, got []",
    "optimizer.betas=[]": "optimizer.betas.0: a value is needed",
    "~optimizer": "~optimizer: expected an option, since every run needs one",
    "~optimizer.name": "optimizer.name: a value is needed, such as optimizer=OPTION",
    # sweeps of nothing, and of too much
    "-m lr=glob(x*)": "matches no option of lr",
    "-m seed=range(1,1)": "the sweep has no runs; check its lists and globs",
    "-m hydra/launcher=basic seed=range(1,1)": "the sweep has no runs; check its lists and globs",
    "-m seed=range(0,1e9)": "the sweep has 1,000,000,000 runs: expected at most 10,000",
    "-m seed=range(0,200) epochs=range(0,200)": "the sweep has 40,000 runs: expected at most",
    "-m lr=range(0,inf)": "the sweep has endlessly many runs: expected at most 10,000",
    "-m seed=range(0,1,0)": "the sweep has endlessly many runs: expected at most 10,000",
    "-m lr=interval(0,1)": "a sweep takes no number of an interval by itself",
    "-m hydra.sweeper.max_batch_size=0 seed=0,1": "expected null or a number above 0, got 0",
    # Hydra's own
    "hydra/launcher=nope": "hydra/launcher=nope: expected one of basic, packed, ray",
    "hydra.launcher.foo=1": "hydra.launcher.foo: unknown setting",
    "-m hydra.launcher.runs_per_device=0": "expected auto or 1 and above, got 0",
    "--config-name nope": "nope.yaml: there is no such file in the configuration folders",
    "--config-dir nowhere": "inside/nowhere' not found",
    "--config-path /nowhere": "Primary config directory not found",
    "--cfg nonsense": "invalid choice: 'nonsense' (choose from 'job', 'hydra', 'all')",
    "--cfg": "argument --cfg/-c: expected one argument",
    "--resolve": "can only be used in conjunction with --cfg",
    "-sc query=bash": "COMP_LINE",
    "--allow": "--allow: expected one argument",
    # text that is none
    f"seed={'9' * 5000}": "Exceeds the limit (4300 digits) for integer string conversion",
    f"{'x' * 100_000}=1": "File name too long",
    f"paths.logs={'x' * 300}": "File name too long",
    "paths.results='\udcff'": "expected settings in UTF-8",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[:40])
def test_a_mistake_is_told(place: Path, mistake: str) -> None:
    done = call(place, [*BASE, *mistake.split(" ")])
    assert done.status
    assert MISTAKES[mistake] in done.out + done.err
    assert not list(place.rglob("run.json"))


@pytest.mark.integration
@pytest.mark.parametrize(
    "right",
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
def test_what_is_odd_and_right_runs(place: Path, right: str) -> None:
    arguments = [*BASE, *right.split(" ")]
    check(place, arguments)
    assert list(place.rglob("run.json")) or "--info" in arguments


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
    "nothing there": ["nowhere"],
    "a file": ["file"],
    "an empty folder": ["empty"],
    "a folder that cannot be read": ["closed"],
    "an empty word": [""],
    "here": ["."],
    "a long word": ["x" * 5000],
    "two that are not there": ["nowhere", "elsewhere"],
    "an option that is not there": ["--nonsense", "nowhere"],
    "control characters": ["\x1b[2J\x01"],
    "no text": ["\udcff"],
}


def command_status(place: Path, arguments: list[str]) -> int:
    """Call `python -m cifar_exp` in this process, which fails with a few lines at most.

    Returns:
        The exit status.
    """
    make(place)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(printed):
        patch.chdir(place)
        patch.setattr(sys, "argv", ["cifar_exp", *arguments])
        patch.setattr(sys, "stdout", printed)  # the command replaces both
        patch.setattr(sys, "stderr", printed)
        try:
            status = main()
        except SystemExit as end:  # of argparse
            status = int(end.code or 0)
    text = printed.getvalue()
    assert list(place.parent.iterdir()) == [place]
    assert "Traceback" not in text
    assert "\x1b" not in text
    lists_problems = "\nproblems: " in text  # of a folder that holds folders, as classes
    assert status == 0 or lists_problems or 1 <= len(text.strip().splitlines()) <= 5, text[-3000:]
    return status


@pytest.mark.parametrize("given", ARGUMENTS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_reports_what_is_wrong_with_its_arguments(
    place: Path, command: list[str], given: str
) -> None:
    works = ("none", "here", "an empty word", "an empty folder", "a folder that cannot be read")
    if command[0] in ("ls", "gc") and given in works:
        pytest.skip("is right, and has tests of its own")
    assert command_status(place, [*command, *ARGUMENTS[given]]) in (1, 2)


@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=lambda wrong: " ".join(wrong)[:40])
def test_an_unknown_command_or_a_wrong_option_is_refused(place: Path, wrong: list[str]) -> None:
    assert command_status(place, wrong) in (1, 2)
