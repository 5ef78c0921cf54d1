"""Results with hostile files: commands report an error or show the content as text."""

import io
import json
import math
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st

from cifar_exp.__main__ import main
from tests.conftest import TINY

HTML = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onload=a ](javascript:alert(1)) `"
STUDY = {
    "name": "mine",
    "title": "My study",
    "question": "Does it?",
    "vary": {"lr": [0.001, 0.01]},
    "seeds": [0],
    "claims": [{"says": "It rises.", "metric": "final_train_loss", "expects": "rises"}],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, command_line) -> Path:
    """The results of a study, written by train.py."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "study").mkdir()
    (folder / "study" / "mine.yaml").write_text(yaml.safe_dump(STUDY))
    tiny = [word for word in TINY if not word.startswith("epochs")]
    train = command_line(folder)
    train("--config-dir", str(folder), "study=mine", *tiny, "epochs=2")
    for file in train.runs.glob("*/run.json"):  # with sums, only the sums would be checked
        state = json.loads(file.read_text())
        del state["sha256"]
        file.write_text(json.dumps(state))
    return folder / "multirun_results"


class Results:
    """A copy of the results, whose files a test changes."""

    def __init__(self, made: Path, folder: Path) -> None:
        shutil.copytree(made, folder)
        self.folder = folder
        (self.sweep,) = folder.glob("mine-*")
        self.runs = sorted((folder / "runs").iterdir())
        self.files = {
            "sweep.json": self.sweep / "sweep.json",
            **{name: self.runs[0] / name for name in ("run.json", "config.yaml", "metrics.jsonl")},
        }

    def read(self, name: str) -> Any:
        text = self.files[name].read_text()
        if name == "metrics.jsonl":
            return [json.loads(line) for line in text.splitlines()]
        return yaml.safe_load(text) if name == "config.yaml" else json.loads(text)

    def write(self, name: str, content: Any) -> None:
        if name == "metrics.jsonl" and isinstance(content, list):
            text = "".join(json.dumps(row) + "\n" for row in content)
        else:
            text = yaml.safe_dump(content) if name == "config.yaml" else json.dumps(content)
        self.files[name].write_text(text)

    def commands(self) -> Iterator[list[str]]:
        yield ["table", str(self.sweep)]
        yield ["table", str(self.sweep), "--latex"]
        yield ["report", str(self.sweep)]
        yield ["report", str(self.sweep), "--check"]
        yield ["compare", *map(str, self.runs)]
        yield ["ls", "--results", str(self.folder)]
        yield ["gc", "--replaced", "--results", str(self.folder)]
        yield ["evaluate", str(self.runs[0])]


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Results:
    return Results(made, tmp_path / "results")


def called(arguments: list[str]) -> tuple[int, str]:
    """Call `python -m cifar_exp` in this process. Returns the exit status and the output."""
    output = io.StringIO()
    before = sys.argv, sys.stdout, sys.stderr
    sys.argv = ["cifar_exp", *arguments]
    try:
        with redirect_stdout(output), redirect_stderr(output):
            status = main()
    finally:
        sys.argv, sys.stdout, sys.stderr = before
    return status, output.getvalue()


def keys_in(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in a JSON value with each of its keys or indices."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(pairs):
        yield content, key
        if isinstance(value, dict | list):
            yield from keys_in(value)


def check_commands(
    results: Results,
    kinds: tuple[str, ...] = ("table", "report", "compare", "ls", "gc", "evaluate"),
) -> None:
    """Check that each command succeeds or reports an error in at most two lines."""
    for arguments in results.commands():
        if arguments[0] in kinds:
            status, printed = called(arguments)
            assert status in (0, 1)
            assert "\x1b" not in printed  # starts a terminal command
            assert status == 0 or 1 <= len(printed.splitlines()) <= 2, printed


def test_the_report_shows_hostile_names_as_text(results: Results) -> None:
    state = results.read("run.json") | {"status": "failed", "reason": HTML}
    state["provenance"] |= {"commit": HTML, "versions": {HTML: HTML}}
    results.write("run.json", state)
    config = results.read("config.yaml")
    config["data"] = {"name": "image_folder", "root": HTML}
    results.write("config.yaml", config)
    sweep = results.read("sweep.json")
    study = sweep["studies"][0]["study"]
    study |= {"title": HTML, "question": HTML, "vary": study["vary"] | {"data.root": [HTML]}}
    study |= {"claims": []}
    sweep["command"] = HTML
    results.write("sweep.json", sweep)
    assert called(["report", str(results.sweep)])[0] == 0
    page = (results.sweep / "report.html").read_text()
    tags = Tags(page)
    assert tags.text.count(HTML) >= 6
    assert "script" not in tags.names
    assert not [name for name in tags.attributes if name.startswith("on")]
    assert not [value for value in tags.attributes.values() if "javascript:" in value[:11]]
    assert "default-src 'none'" in page  # the browser runs no script
    markdown = (results.sweep / "report.md").read_text()
    shown = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<script" not in shown
    assert not re.search(r"(?<!\\)\]\(javascript", shown)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {
            name: self.attributes.get(name, "") + str(value) for name, value in attrs
        }

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    "folder", ["../../x", "/etc", "..", ".", "", "a/b", "a/", "a\0", 3, None, ["x"]]
)
def test_runs_outside_the_results_are_not_read(results: Results, folder: Any) -> None:
    sweep = results.read("sweep.json")
    sweep["runs"][1]["folder"] = folder
    results.write("sweep.json", sweep)
    for command in ("table", "report"):
        status, printed = called([command, str(results.sweep)])
        assert status == 1
        assert "runs.1.folder: " in printed


DEEP: Any = json.loads("[" * 500 + "]" * 500)
LAUGHS = "a: &a [x,x]\n" + "".join(
    f"{new}: &{new} [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]\n"
    for old, new in pairwise("abcdefghijklmn")
)
CONTENTS = {
    "nothing": b"",
    "bytes": bytes(range(256)) * 100,
    "ten megabytes": b'"' + b"x" * 10_000_000 + b'"',
    "too deep": b"[" * 100_000 + b"]" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "a number": b"1",
    "a word": b"word",
    "a number of 5,000 digits": b"9" * 5_000,
    "billion laughs": LAUGHS.encode(),
    "an object of Python": b"!!python/object/apply:os.system ['touch ran']",
    "a date": b"seed: 2026-01-01",
    "keys that are not text": b"{[a]: 1, 2: 3, null: 4}",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["sweep.json", "run.json", "config.yaml", "metrics.jsonl"])
def test_a_file_with_any_content_is_reported(results: Results, name: str, content: str) -> None:
    results.files[name].write_bytes(CONTENTS[content])
    check_commands(results, ("table", "compare"))
    status, printed = called(["table", str(results.sweep)])
    if name == "sweep.json":
        assert status == 1
    if name == "config.yaml":  # the other run is shown
        assert status == 0
        assert f"{results.files[name]}: expected the settings of a run" in printed


def test_folders_in_place_of_files_are_reported(results: Results) -> None:
    for name in results.files:
        results.files[name].unlink()
        results.files[name].mkdir()
        check_commands(results)


VALUES = st.sampled_from(
    [None, [], {}, "", "x", HTML, "../../x", "/etc/passwd", "\x00", "\x1b[2J", "\ud800", "é" * 300,
     "~nobody/x", "${oc.env:NOPE}", "$x^{$", "y" * 90_000, True, False, 0, -1, 1, 2, 10**18,
     10**400, -0.5, 3e38, 1e308, -1e308, 1e-320, math.nan, math.inf, [None], [[]], {"a": []},
     {"<b>": HTML}, DEEP, "2026-01-01"]
)  # fmt: skip


def changed(content: Any, seed: int, kind: str, value: Any) -> Any:
    """Return the content after one change.

    Args:
        content: a JSON value.
        seed: chooses the key that is changed.
        kind: whole, delete, add or replace.
        value: the new value.
    """
    if kind == "whole":
        return value
    container, key = random.Random(seed).choice(list(keys_in(content)))
    if kind == "delete":
        del container[key]
    elif kind == "add" and isinstance(container, dict):
        container[str(value)] = value
    else:
        container[key] = value
    return content


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, int, str, Any]:
    name = draw(st.sampled_from(["sweep.json", "run.json", "config.yaml", "metrics.jsonl"]))
    kind = draw(st.sampled_from(["replace"] * 6 + ["delete", "add", "whole"]))
    return name, draw(st.integers(0, 10**6)), kind, draw(VALUES)


def check_change(made: Path, change: tuple[str, int, str, Any]) -> None:
    name, *how = change
    with tempfile.TemporaryDirectory() as folder:
        results = Results(made, Path(folder) / "results")
        results.write(name, changed(results.read(name), *how))
        check_commands(results)


@pytest.mark.slow
@pytest.mark.integration
@options(max_examples=5, derandomize=True, deadline=None, database=None)
@given(changes())
def test_any_changed_value_is_reported_or_shown(
    made: Path, change: tuple[str, int, str, Any]
) -> None:
    check_change(made, change)


@pytest.mark.slow
@options(max_examples=1000, deadline=None, database=None)
@given(changes())
def test_any_of_1000_changed_values_is_reported_or_shown(
    made: Path, change: tuple[str, int, str, Any]
) -> None:
    check_change(made, change)
