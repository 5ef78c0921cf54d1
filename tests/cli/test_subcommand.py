"""The help texts of `python -m cifar_exp`."""

import pytest

from cifar_exp.__main__ import _parser
from docs.reference.generate import commands

COMMANDS = commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_one_sentence_and_an_example_that_is_valid(name: str) -> None:
    sentence, _, example = str(COMMANDS[name].description).partition("\n\n")
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0
    program, _, arguments = example.strip().partition("cifar_exp ")
    assert program == "python -m "
    assert _parser().parse_args(arguments.split()).command == name
