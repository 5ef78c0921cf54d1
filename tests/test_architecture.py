"""Which room may import what. A line here changes only together with the design."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cifar_exp"
# From top to bottom; a room imports from those below it.
ROOMS = [
    "selftest",
    "trained",
    "search",
    "studies",
    "runs",
    "training",
    "models",
    "data",
    "config",
]
FOR_ALL = ("errors", "files", "out_of_memory", "terminal")
# Libraries that only these rooms may import.
ONLY_IN = {
    "hydra": {"config"},
    "omegaconf": {"config"},
    "matplotlib": {"figures"},
    "optuna": {"search"},
    "sqlalchemy": {"search"},
    "pydantic": {"config"},
    "tensorboard": {"runs"},
    "torch": {"selftest", "trained", "runs", "training", "models", "data"},
    "trackio": {"runs"},
    "wandb": {"runs"},
}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield str(node.module)


def files(room: str) -> list[Path]:
    found = sorted((PACKAGE / room).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("room", [*ROOMS, "figures"])
def test_a_room_imports_from_those_below_it_only(room: str) -> None:
    # figures takes numbers and knows nothing of runs
    below = set() if room == "figures" else {*ROOMS[ROOMS.index(room) + 1 :]}
    below |= {"figures"} if room in ("trained", "search", "studies", "runs") else set()
    for file in files(room):
        for name in imports(file):
            top, _, rest = name.partition(".")
            if top == "cifar_exp" and rest not in FOR_ALL:
                assert rest.split(".")[0] in below | {room}, f"{file} imports {name}"


@pytest.mark.parametrize("room", [*ROOMS, "figures"])
def test_a_library_is_imported_in_its_rooms_only(room: str) -> None:
    for file in files(room):
        for name in imports(file):
            allowed = ONLY_IN.get(name.partition(".")[0], {room})
            assert room in allowed, f"{file} imports {name}"


def test_train_py_fits_on_a_screen() -> None:
    assert len((ROOT / "train.py").read_text().splitlines()) <= 60
