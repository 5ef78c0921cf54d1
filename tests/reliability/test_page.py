"""The page of faults names the tests that there are, and selftest does what it says."""

import ast
import re
from pathlib import Path

from cifar_exp.selftest.faults import FAULTS
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
TESTS = ROOT / "tests" / "reliability"
# These are about the page and the command, and about what a test itself can see.
NO_FAULTS = {"test_page.py", "test_selftest.py"}


def named() -> set[tuple[str, str]]:
    """File and test of each line of the page."""
    found = set()
    for place, name in re.findall(r"\| ([\w/]+): `(\w+)` \|", PAGE):
        room, _, file = place.rpartition("/")
        folder = ROOT / "tests" / room if room else TESTS
        found.add((str(folder / f"test_{file}.py"), f"test_{name}"))
    return found


def functions_in(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_line_names_a_test_that_is_there() -> None:
    assert len(named()) > 60
    for file, name in named():
        assert name in functions_in(Path(file)), (file, name)


def test_every_test_of_a_fault_is_in_a_line() -> None:
    seen_by_itself = {"test_listening_sockets_are_seen"}
    for file in TESTS.glob("test_*.py"):
        if file.name not in NO_FAULTS:
            for name in functions_in(file) - seen_by_itself:
                assert (str(file), name) in named(), name


def test_selftest_provokes_something_of_each_row_that_says_so() -> None:
    parts = re.split(r"(?m)^## (\d+)\. ", PAGE)[1:]
    rows = dict(zip(map(int, parts[::2]), parts[1::2], strict=True))
    assert {fault.row for fault in FAULTS} == {row for row, text in rows.items() if "| ● |" in text}


def test_the_readme_counts_the_faults() -> None:
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"\| [\w/]+: `\w+` \|", PAGE)
    assert f"| faults in the list, each with its test | {len(lines)} |" in readme
    assert f"in about two minutes | {len(FAULTS)} |" in readme
