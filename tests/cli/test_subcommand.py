"""The help texts of `python -m cifar_exp`."""

import tomllib
from importlib.metadata import EntryPoint

import pytest

from cifar_exp.__main__ import _parser, main
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
