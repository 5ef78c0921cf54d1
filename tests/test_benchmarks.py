"""The benchmarks run from beginning to end; what they measure is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


TITLES = {
    "epochs": ["One run"],
    "parts": ["Parts of a step", "Parts of a step"],
    "input": ["Input pipeline"],
    "start": ["Start"],
    "packed": ["Many runs at once"],
}


@pytest.mark.parametrize(
    "sections", [["epochs", "input"], pytest.param(list(TITLES), marks=pytest.mark.slow)], ids=len
)
def test_a_section_is_measured_and_written_down(tmp_path: Path, sections: list[str]) -> None:
    only = ["--only", *sections] if len(sections) < len(TITLES) else []
    said = subprocess.run(
        [sys.executable, BENCHMARKS / "run.py", "--quick", "--results", tmp_path, *only],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    (numbers,) = tmp_path.glob("*.json")
    (text,) = tmp_path.glob("*.md")
    assert numbers.stem == text.stem
    assert text.stem.startswith("cpu-")
    assert text.stem.endswith("-quick")  # so that it never replaces what was measured for real
    tables = json.loads(numbers.read_text())["tables"]
    titles = [table["title"].split(":")[0] for table in tables]
    assert titles == [title for section in sections for title in TITLES[section]]
    assert all(table["rows"] for table in tables)
    for table in tables:
        assert table["title"] in said
        assert table["title"] in text.read_text()
    assert "the numbers mean nothing" in text.read_text()
