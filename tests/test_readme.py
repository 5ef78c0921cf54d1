"""What the README says is so: its commands run, its names exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CommandLine

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def composing(command: str) -> list[str]:
    """The arguments of a train.py command, so that it is composed and not trained."""
    words = command.replace("'", "").split("train.py", 1)[1].split()
    return [word for word in words if word != "-m"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "python train.py" in c])
def test_a_command_of_the_readme_composes(train: CommandLine, command: str) -> None:
    arguments = composing(command)
    if "--cfg" not in arguments:
        # a sweep composes point by point: the first value of every list
        arguments = [
            re.sub(r"=([^,\[]+),.*", r"=\1", a).replace("glob(*)", "high") for a in arguments
        ]
        arguments += ["--cfg", "job"]
    if "experiment=mine" in arguments:
        pytest.skip("is written by the reader")
    assert "optimizer:" in train(*arguments)


def test_the_first_two_commands_set_up_and_run() -> None:
    demo, tests = COMMANDS[0], COMMANDS[1]
    for command in (demo, tests):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
    assert demo.endswith("train.py -m experiment=demo lr=0.1,0.01,0.001")
    assert tests.endswith("python -m pytest")
    assert "python -m pytest\n" in (ROOT / ".ci" / "run").read_text()  # CI runs the same


def test_links_and_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) >= 5
    for target in targets:
        assert (ROOT / target).exists(), target


def test_every_option_of_a_group_is_named() -> None:
    for file in (ROOT / "conf").glob("*/*.yaml"):
        assert f"`{file.stem}`" in README, file


def test_the_experiment_of_the_readme_can_be_written_as_it_says(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    shown = subprocess.run(
        [
            sys.executable,
            ROOT / "train.py",
            "--config-dir",
            tmp_path,
            "experiment=mine",
            "--cfg",
            "job",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert "name: sgd" in shown
    assert "epochs: 30" in shown


def test_the_demo_shows_that_a_tenth_is_too_high(train: CommandLine) -> None:
    said = train("-m", "experiment=demo", "lr=0.1,0.01,0.001", "epochs=3")
    table = said[said.rindex("95 % interval") :].splitlines()[2:5]
    assert [line.split()[1] for line in table][2] == "0.1"
    assert float(table[2].split()[2]) < 0.3 < float(table[0].split()[2])
