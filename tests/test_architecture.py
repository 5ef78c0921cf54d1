"""The imports that are allowed between the rooms of the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cifar_exp"
# From top to bottom: a room imports only from rooms below it.
ROOMS = [
    "cli",
    "search",
    "sweeps",
    "reports",
    "inference",
    "runs",
    "loggers",
    "training",
    "config",  # combines the settings of the rooms below
    "optimizers",
    "schedulers",
    "models",
    "data",
    "custom_code",
    "expressions",
    "sections",
]
FOR_ALL = ("errors", "files", "out_of_memory", "paths", "signals", "terminal")
# Libraries that only these rooms may import.
ONLY_IN = {
    "hydra": {"cli", "config"},
    "matplotlib": {"figures"},
    "mlflow": {"loggers"},
    "omegaconf": {"cli", "config", "expressions"},
    "optuna": {"search"},
    "pandas": {"reports"},
    "pydantic": {
        # settings
        *("config", "optimizers", "schedulers", "models", "data", "sections"),
        *("runs", "reports", "search"),  # schemas of files
    },
    "sqlalchemy": {"search"},
    "tensorboard": {"loggers"},
    "torch": {"cli", "inference", "sweeps", "runs", "training", "optimizers", "models", "data"},
    "trackio": {"loggers"},
    "wandb": {"loggers"},
}
DRAWING = ("search", "reports", "inference", "runs")  # rooms that import figures


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield str(node.module)


def files(room: str) -> list[Path]:
    found = sorted([*PACKAGE.glob(f"{room}.py"), *(PACKAGE / room).rglob("*.py")])
    assert found
    return found


@pytest.mark.parametrize("room", [*ROOMS, "figures"])
def test_a_room_imports_only_from_rooms_below_it(room: str) -> None:
    # figures depends on no room
    below = set() if room == "figures" else {*ROOMS[ROOMS.index(room) + 1 :]}
    below |= {"figures"} if room in DRAWING else set()
    for file in files(room):
        for name in imports(file):
            top, _, rest = name.partition(".")
            if top == "cifar_exp" and rest not in FOR_ALL:
                assert rest.split(".")[0] in below | {room}, f"{file} imports {name}"


@pytest.mark.parametrize("room", [*ROOMS, "figures"])
def test_a_library_is_imported_only_in_its_rooms(room: str) -> None:
    for file in files(room):
        for name in imports(file):
            allowed = ONLY_IN.get(name.partition(".")[0], {room})
            assert room in allowed, f"{file} imports {name}"


def test_every_room_is_in_the_table() -> None:
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    files = {file.stem for file in PACKAGE.glob("[a-z]*.py")}
    assert rooms | files == {*ROOMS, *FOR_ALL, "figures"}


def test_there_are_no_circular_imports() -> None:
    """Imports inside functions are included."""
    below = {module_of(file): set(imported_modules(file)) for file in PACKAGE.rglob("*.py")}
    while leaves := [module for module, names in below.items() if not names & below.keys()]:
        for module in leaves:
            del below[module]
    assert not below, f"circular imports: {sorted(below)}"


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules = {f"{node.module}.{alias.name}" for alias in node.names}
            found = {name for name in modules if is_module(name)}
            yield from found or {str(node.module)}


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_plugins_only_register_classes() -> None:
    (file,) = (ROOT / "hydra_plugins").rglob("plugins.py")
    assert {file.parent.name for file in (ROOT / "hydra_plugins").rglob("[a-z]*.py")} == {
        "cifar_exp"
    }
    assert not any(
        isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(file.read_text()))
    )


def test_train_py_fits_on_a_screen() -> None:
    assert len((ROOT / "train.py").read_text().splitlines()) <= 67
