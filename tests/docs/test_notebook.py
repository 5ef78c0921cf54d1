"""The notebook about results runs, and the page shows the same code."""

import json
import re
from typing import Any

import matplotlib as mpl
import pytest

from tests.conftest import ROOT

CELLS = json.loads((ROOT / "docs/notebooks/results.ipynb").read_text("utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    mpl.use("agg")
    names: dict[str, Any] = {}
    for cell in CODE:
        exec(cell, names)
    assert len(names["frame"]) == 116  # the article's six studies, shared runs once
    assert list(names["means"].columns) == [0.0001, 0.01, 0.1]
    assert names["axes"].get_xlabel() == "epoch"


def test_the_page_shows_the_code_of_the_notebook() -> None:
    page = (ROOT / "docs/guide/results-in-python.md").read_text("utf-8")
    assert re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) == CODE
