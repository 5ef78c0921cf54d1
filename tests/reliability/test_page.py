"""docs/reliability.md lists all fault tests."""

import ast
import re
from pathlib import Path

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
TESTS = ROOT / "tests" / "reliability"


def named() -> set[tuple[str, str]]:
    """Return the file and the test in each line of the page."""
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


def test_every_line_names_an_existing_test() -> None:
    assert len(named()) > 60
    for file, name in named():
        assert name in functions_in(Path(file)), (file, name)


def test_every_fault_test_is_listed() -> None:
    not_faults = {"test_listening_sockets_are_found"}
    for file in TESTS.glob("test_*.py"):
        if file != Path(__file__):
            for name in functions_in(file) - not_faults:
                assert (str(file), name) in named(), name


def test_the_page_states_the_number_of_faults() -> None:
    lines = re.findall(r"\| [\w/]+: `\w+` \|", PAGE)
    assert f"| faults in the list, each with its test | {len(lines)} |" in PAGE
