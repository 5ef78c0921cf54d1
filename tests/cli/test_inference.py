"""The commands for trained networks, without a network."""

from pathlib import Path

import pytest

from cifar_exp.cli.inference import _files, _folder_name
from cifar_exp.errors import UserError


def test_each_evaluation_of_a_run_has_its_folder() -> None:
    assert _folder_name([], "test") == "test"
    assert _folder_name([], "validation") == "validation"
    assert _folder_name(["data.limit_test=20", "test_flip=true"], "test") == (
        "data.limit_test=20,test_flip=true"
    )
    roots = ("a/b", "a-b", "a b", f"{'long/' * 30}1", f"{'long/' * 30}2", "\udcff", "ü")
    names = {_folder_name([f"data.root={root}"], "test") for root in roots}
    assert len(names) == len(roots)
    assert all("/" not in name and len(name.encode()) < 120 for name in names)


def test_a_pattern_that_matches_only_folders_without_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("e/a", "e/b", "full/c"):
        Path(name).mkdir(parents=True)
    Path("full/c/1.png").touch()
    with pytest.raises(UserError, match=r"^e/\*: expected a folder with images, found none$"):
        _files(["full", "e/*"])
    assert _files(["*/*"]) == ["full/c/1.png"]
