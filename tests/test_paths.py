"""Only `cifar_exp.paths` contains the names of files and folders."""

import re

import pytest

from cifar_exp import paths
from tests.conftest import ROOT

NAMES = [name for key, name in vars(paths).items() if key.isupper() and name != paths.RUNS]


@pytest.mark.parametrize("name", NAMES)
def test_only_paths_contains_the_name_of_a_file_or_folder(name: str) -> None:
    quoted = re.compile(rf'["/]{re.escape(name)}"')
    others = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "cifar_exp").rglob("*.py")
        if path != ROOT / "cifar_exp/paths.py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if quoted.search(line) and "get_template(" not in line
    ]
    assert others == [], f"import {name} from cifar_exp.paths"
