"""Every command of README.md and docs/ composes, and those of README and tutorial run.

Each page has a new folder that looks like a checkout. `commands.py` lists the commands that are
made small or skipped, with reasons. The slow tests run the commands of all pages.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT, CommandLine
from tests.docs.commands import (
    ALL,
    COMPOSED,
    PAGES,
    PAGES_RUN,
    README,
    RULES,
    SIZES,
    SLOW,
    TRAINS,
    Command,
    File,
    commands,
    steps,
)
from tests.docs.composing import compose
from tests.processes import run_command, start_process
from tests.reliability.hold import LONGEST_WAIT_SECONDS

# Pages whose commands need Hydra plug-ins from the extra test-all.
NEED_PLUGINS = ("ray", "slurm")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the project's files and a folder of images."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for name in ("train.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("cifar_exp", "hydra_plugins", "benchmarks", "docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for part in ("train", "test"):
        for label, shade in (("cat", 60), ("dog", 190)):
            folder = tmp_path / "my_images" / part / label
            folder.mkdir(parents=True)
            for number in range(32):
                colour = (shade, number, 0 if part == "train" else 255)
                Image.new("RGB", (40, 40), colour).save(folder / f"{number}.png")
    return tmp_path


def run(text: str, folder: Path) -> tuple[int | None, str]:
    """Run a command in a shell, or a plain one in a forked Python process."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    plain = re.fullmatch(r"python (train\.py|-m cifar_exp)((?: (?:\$\(.*?\)|[^&|;<>`])*)?)", text)
    if plain is None:
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
            timeout=LONGEST_WAIT_SECONDS,
        )
        return done.returncode, done.stdout + done.stderr
    expanded = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {plain[2]}"], cwd=folder, capture_output=True, text=True
    ).stdout
    program = "cifar_exp" if "cifar_exp" in plain[1] else str(folder / "train.py")
    arguments = [word for word in expanded.split("\0") if word]
    ended = run_command(*arguments, program=program, cwd=folder)
    return ended.status, ended.out + ended.err


def write(file: File, folder: Path) -> None:
    path = folder / file.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


def run_page(page: Path, folder: Path, slow: bool) -> None:
    for step in steps(page):
        if isinstance(step, File):
            write(step, folder)
        elif step.run_as is not None and step.slow <= slow:
            status, output = run(step.run_as, folder)
            assert status == 0, f"{step.text}\nrun as: {step.run_as}\n{output}"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.integration] * (page.stem in NEED_PLUGINS))
        for page in COMPOSED
    ],
    ids=lambda page: page.stem,
)
def test_the_settings_of_every_command_are_valid(page: Path, checkout: Path) -> None:
    for step in steps(page):
        if isinstance(step, File):
            write(step, checkout)
    problems = checkout / "problems"
    process = start_process(compose, COMPOSED[page], checkout, problems)
    process.join()
    assert problems.read_text() == ""


@pytest.mark.integration
def test_the_commands_of_readme_and_tutorial_run(checkout: Path) -> None:
    for page in PAGES_RUN:  # in one folder, so that shared runs are trained once
        run_page(page, checkout, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(c.run_as for c in commands(page))], ids=lambda p: p.stem
)
def test_all_commands_of_a_page_run(page: Path, checkout: Path) -> None:
    run_page(page, checkout, slow=True)


def test_every_rule_matches_a_command() -> None:
    for rule in (*RULES, *SLOW):
        assert any(re.search(rule.pattern, command.text) for command in ALL), rule
    trained = [c.text for c in ALL if re.search(TRAINS, c.text)]
    for size in SIZES:
        assert any(not re.search(size.unless, text) for text in trained), size


def test_commands_are_found() -> None:
    page = ROOT / "docs" / "guide" / "own-study.md"
    first, *others = steps(page)
    assert first.path == "conf/study/width.yaml"
    assert (
        Command("docs/guide/own-study.md", "python train.py study=width experiment=demo") in others
    )
    assert len({command.page for command in ALL}) >= 8


def test_the_first_two_commands_set_up_and_run() -> None:
    set_up = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    texts = [command.text for command in commands(README)]
    demo, tests = [text for text in texts if text.startswith(set_up)]
    assert demo.endswith("train.py -m experiment=demo lr=0.1,0.01,0.001")
    assert tests.endswith("python -m pytest")
    in_ci = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"(?m)^python -m pytest( --durations=\d+)?$", in_ci)  # runs the same tests


@pytest.mark.slow
def test_the_demo_shows_that_a_tenth_is_too_high(train: CommandLine) -> None:
    output = train("-m", "experiment=demo", "lr=0.1,0.01,0.001", "data.train_size=2000")
    table = output[output.rindex("95 % interval") :].splitlines()[2:5]
    assert [line.split()[1] for line in table][2] == "0.1"
    assert float(table[2].split()[2]) < 0.3 < float(table[0].split()[2])


def test_yaml_files_in_the_pages_are_valid() -> None:
    for page in PAGES:
        for step in steps(page):
            if isinstance(step, File) and step.path.endswith(".yaml"):
                assert yaml.safe_load(step.text)
