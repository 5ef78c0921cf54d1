"""Whether the search.json of a search can be trusted."""

import json
from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.search.report import read_search


def test_the_list_of_another_search_is_not_taken(tmp_path: Path) -> None:
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
    own, other = tmp_path / "search-lr-0123456789", tmp_path / "search-lr-abcdef0123"
    for folder in (own, other):
        folder.mkdir()
        (folder / "search.json").write_text(json.dumps(content))
    assert read_search(own).id == "0123456789"
    with pytest.raises(UserError, match="it is of search 0123456789, not of abcdef0123"):
        read_search(other)
    del content["id"]  # as those from before
    (other / "search.json").write_text(json.dumps(content))
    assert read_search(other).id == ""
