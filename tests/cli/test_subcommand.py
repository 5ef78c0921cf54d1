"""The help texts of `python -m cifar_exp`."""

import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from cifar_exp.__main__ import _arguments, _parser, main
from docs.reference.generate import commands
from tests.conftest import ROOT

COMMANDS = commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_one_sentence_and_an_example_that_is_valid(name: str) -> None:
    sentence, _, example = str(COMMANDS[name].description).partition("\n\n")
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    program, _, arguments = example.strip().partition("cifar_exp ")
    assert program == "python -m "
    assert _parser().parse_args(arguments.split()).command == name


def test_the_console_command_is_the_same_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("cifar-exp", scripts["cifar-exp"], "console_scripts").load() is main


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        ("predict RUN --csv out.csv a.jpg b.jpg", "images", ["a.jpg", "b.jpg"]),
        (
            "predict RUN a.jpg --device cpu b.jpg --csv out.csv c.jpg",
            "images",
            ["a.jpg", "b.jpg", "c.jpg"],
        ),
        ("predict --device cpu RUN a.jpg", "images", ["a.jpg"]),
        ("predict RUN --grid 4", "images", []),
        ("evaluate RUN --device cpu data.limit_test=6", "data", ["data.limit_test=6"]),
        ("export RUN --format onnx data=synthetic", "data", ["data=synthetic"]),
        ("compare A --results folder B", "runs", ["A", "B"]),
    ],
)
def test_options_may_be_anywhere_among_the_words_of_a_list(
    command: str, name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cifar_exp", *command.split()])
    assert getattr(_arguments(_parser()), name) == words


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("predict RUN a.jpg --cvs out.csv", "--cvs"),
        ("evaluate RUN -x data.limit_test=6", "-x"),
        ("report SWEEP another", "another"),  # has no list
        ("doctor nowhere", "nowhere"),
        ("doctor --data photos nowhere", "nowhere"),
    ],
)
def test_unknown_options_and_superfluous_words_are_refused(
    command: str,
    unknown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["cifar_exp", *command.split()])
    with pytest.raises(SystemExit):
        _arguments(_parser())
    printed = capsys.readouterr().err
    assert printed.endswith(f"error: unrecognized arguments: {unknown}\n")
    assert printed.startswith(f"usage: python -m cifar_exp {command.split()[0]} [-h]")
