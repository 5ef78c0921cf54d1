"""The page of faults names the tests that there are."""

import ast
import re
from pathlib import Path

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
TESTS = ROOT / "tests" / "reliability"


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
        if file != Path(__file__):
            for name in functions_in(file) - seen_by_itself:
                assert (str(file), name) in named(), name


def test_the_page_counts_its_faults() -> None:
    lines = re.findall(r"\| [\w/]+: `\w+` \|", PAGE)
    assert f"| faults in the list, each with its test | {len(lines)} |" in PAGE
