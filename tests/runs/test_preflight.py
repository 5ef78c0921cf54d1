"""Checks before training."""

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cifar_exp.config.schema import Logger, Paths, RunConfig
from cifar_exp.data import image_folder
from cifar_exp.data.settings import ImageFolder, Synthetic
from cifar_exp.errors import UserError
from cifar_exp.models.settings import Model
from cifar_exp.runs import train_one
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.preflight import preflight
from tests.made import make_run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(
        data=Synthetic(train_size=200),
        model=Model(name="vgg11", width=1 / 64),
        logger=Logger(tensorboard=False),
        paths=Paths(results=str(tmp_path), logs=str(tmp_path / "logs")),
    )


def set_disk_usage(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    """Replace `shutil.disk_usage`. Args: sizes: total, used and free bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: sizes)


def test_a_full_disk_is_refused_and_a_disk_without_a_size_is_not(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_disk_usage(monkeypatch, 10**9, 10**9, 0)
    with pytest.raises(UserError, match=r"1 run needs about .* and 0 kB are free"):
        preflight([config])
    set_disk_usage(monkeypatch, 0, 0, 0)
    preflight([config])


def test_a_checkpoint_that_another_sweep_deletes_during_the_check_is_not_counted(
    config: RunConfig, tmp_path: Path
) -> None:
    checkpoints = RunFolder.of(config).path / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-1.pt").symlink_to(tmp_path / "deleted")  # listed, but not found
    preflight([config])


def test_a_finished_run_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(train_one, "preflight", refuse)
    folder = make_run(tmp_path, data=Synthetic(train_size=200), logger=Logger(tensorboard=False))
    train_one.train_one(folder.read_config())
    *_, hint, outcome, path, files = capsys.readouterr().out.splitlines()
    assert hint == "finished before, not repeated; rerun=true repeats it"
    assert outcome.startswith("complete: test accuracy")
    assert path == str(folder.path)
    assert "metrics.jsonl" in files


@pytest.mark.parametrize("count", [50, 100])
def test_an_image_folder_is_listed_once_for_all_runs(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    listed = []

    def count_images(*given: Any) -> dict[str, int]:
        listed.append(given)
        return {"cat": 500, "dog": 500}

    monkeypatch.setattr(image_folder, "count", count_images)
    folders = [
        ImageFolder(root=str(tmp_path / name), batch_size=size + 1, limit_train=900)
        for size in range(count)
        for name in ("a", "b")
    ]
    preflight([config.model_copy(update={"data": data}) for data in folders])
    assert [root.name for root, _ in listed] == ["a", "b"]


@pytest.mark.parametrize(
    ("folders", "path", "refused"),
    [
        (["a", "b"], "out", {"results", "logs", "cache"}),
        (["a", "b"], ".", {"results", "logs"}),  # a cache is a file
        (["a", "b"], "../out", set()),
        (["a", "b"], ".out", set()),
        (["train/a", "train/b", "test/a", "test/b"], "out", set()),
        (["train/a", "train/b", "test/a", "test/b"], "train/out", {"results", "logs", "cache"}),
    ],
)
@pytest.mark.parametrize("name", ["results", "logs", "cache"])
def test_a_folder_that_is_written_does_not_become_a_class(
    tmp_path: Path, name: str, folders: list[str], path: str, refused: set[str]
) -> None:
    root = tmp_path / "photos"
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8)).save(root / folder / f"{number}.png")
    others = dict.fromkeys(("results", "logs", "cache"), str(tmp_path))
    config = RunConfig(
        data=ImageFolder(root=str(root), batch_size=2),
        model=Model(name="vgg11", width=1 / 64),
        paths=Paths(**others | {name: str(root / path)}),
    )
    expected = rf"^paths\.{name}=.*: would be a class of the images in data\.root="
    with pytest.raises(UserError, match=expected) if name in refused else nullcontext():
        preflight([config])
