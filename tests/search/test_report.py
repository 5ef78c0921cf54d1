"""Reports of searches."""

import json
from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.reports.records import read_search


def test_a_search_json_of_another_search_is_refused(tmp_path: Path) -> None:
    content = {
        "id": "0123456789",
        "command": "train.py -m",
        "settings": {"metric": "accuracy", "sampler": "tpe", "pruner": "median"},
        "space": {"optimizer.lr": "0.1 or 0.2"},
        "trials": [],
        "best": None,
        "importance": {},
        "confirmations": [],
    }
    this, other = tmp_path / "search-lr-0123456789", tmp_path / "search-lr-abcdef0123"
    for folder in (this, other):
        folder.mkdir()
        (folder / "search.json").write_text(json.dumps(content))
    assert read_search(this).id == "0123456789"
    with pytest.raises(UserError, match="belongs to search 0123456789, expected search abcdef0123"):
        read_search(other)
    del content["id"]  # as earlier versions wrote it
    (other / "search.json").write_text(json.dumps(content))
    assert read_search(other).id == ""
