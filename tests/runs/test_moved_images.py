"""Runs on image folders keep their ids from any folder, and after the images are moved."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from cifar_exp.config.identity import run_id
from cifar_exp.config.load import to_yaml
from cifar_exp.config.schema import Paths, RunConfig, Training
from cifar_exp.config.stored_paths import anchored, relocate
from cifar_exp.data.settings import Cifar10, ImageFolder, Synthetic
from cifar_exp.data.sources import load
from cifar_exp.models.settings import Model
from cifar_exp.runs import moved_images
from cifar_exp.runs.folder import RunFolder
from cifar_exp.runs.moved_images import changed_images, recognised
from tests.conftest import CommandLine, read_rows
from tests.made import make_run

FOLDER = (
    *("data=image_folder", "data.root=photos", "model=vgg11", "model.width=0.015625"),
    *("epochs=1", "batch_size=4", "logger=none", "device=cpu"),
)
NewFolder = Callable[[str], CommandLine]


def make_photos(root: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, command_line) -> CommandLine:
    """A project with an image folder and a sweep on it."""
    project = command_line(tmp_path_factory.mktemp("original"))
    make_photos(project.folder / "photos")
    project("-m", *FOLDER, "seed=0,1")
    return project


def test_images_that_changed_after_a_run_are_reported(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    config = RunConfig(
        data=ImageFolder(root=str(photos)),
        model=Model(name="vgg11"),
        training=Training(epochs=1),
        paths=Paths(results=str(tmp_path), cache=str(tmp_path / "cache")),
    )
    folder = make_run(tmp_path, data=config.data)
    digest = load(config.data, tmp_path / "cache").digest()
    folder.write_state(folder.read_state() | {"data_sha256": digest})
    assert changed_images([(config, folder)]) == []
    (photos / "train" / "cat" / "0.png").unlink()
    (message,) = changed_images([(config, folder)])
    assert "the images have changed since 1 of the finished runs was trained" in message
    assert changed_images([(config.model_copy(update={"rerun": True}), folder)]) == []


def test_changed_images_are_not_called_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, paths = make_photos(tmp_path / "new"), Paths(results=str(tmp_path))
    make_run(tmp_path, data=ImageFolder(root=str(photos), same_as="/old"))
    (photos / "train" / "cat" / "0.png").unlink()
    (config,) = recognised([RunConfig(data=ImageFolder(root=str(photos)), paths=paths)])
    assert isinstance(config.data, ImageFolder)
    assert config.data.same_as == "/old"
    line = f"data.root={photos}: uses the runs on /old, which had the same images\n"
    assert capsys.readouterr().out == line


@pytest.mark.parametrize("part", [{}, {"limit_train": 2, "limit_test": 2}, {"val_fraction": 0.5}])
def test_a_copied_folder_with_more_images_is_not_called_the_same(
    tmp_path: Path, part: dict[str, Any]
) -> None:
    first, copy = make_photos(tmp_path / "v1"), tmp_path / "v2"
    shutil.copytree(first, copy)
    paths = Paths(results=str(tmp_path), cache=str(tmp_path / "cache"))
    of_copy = RunConfig(data=ImageFolder(root=str(copy)), paths=paths)

    def store(data: ImageFolder, seed: int) -> None:
        folder = make_run(tmp_path, data=data, seed=seed)
        digest = load(data, tmp_path / "cache").digest()
        folder.write_state(folder.read_state() | {"data_sha256": digest})

    if part:  # the copy has equal images in this part
        store(ImageFolder(root=str(first), **part), seed=7)
        assert recognised([of_copy]) == [of_copy]
    store(ImageFolder(root=str(first)), seed=0)
    (same,) = recognised([of_copy])
    assert isinstance(same.data, ImageFolder)
    assert same.data.same_as == str(first)
    store(same.data, seed=1)
    cat = copy / "train" / "cat"
    shutil.copy(next(cat.iterdir()), cat / "another.png")
    assert recognised([of_copy]) == [of_copy]


def test_images_of_other_classes_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos")
    run = make_run(tmp_path, data=ImageFolder(root="/old"))
    run.write_state(run.read_state() | {"data_sha256": "0" * 64})
    decoded = []
    monkeypatch.setattr(moved_images, "_digest", lambda *_: decoded.append(1))
    new = RunConfig(data=ImageFolder(root=str(photos)), paths=Paths(results=str(tmp_path)))
    for classes, count in ((["cat", "dog"], 1), (["cat", "ship"], 1)):
        (run.path / "model.json").write_text(json.dumps({"classes": classes}))
        assert recognised([new]) == [new]
        assert len(decoded) == count


def sweep_of(project: CommandLine) -> Path:
    (file,) = project.runs.parent.glob("*/sweep.json")
    return file.parent


@pytest.mark.slow
@pytest.mark.integration
def test_a_sweep_has_the_same_results_from_another_folder(
    original: CommandLine, new_folder: NewFolder
) -> None:
    other = new_folder("elsewhere")
    sweep, runs = sweep_of(original), sorted(map(str, original.runs.iterdir()))
    tables, files = [], []
    for project in (original, other):
        tables.append(project.cifar_exp("table", str(sweep)))
        files.append((sweep / "results.csv").read_bytes())
        project.cifar_exp("report", str(sweep), "--check")
    assert tables[0] == tables[1]
    assert files[0] == files[1]
    assert original.cifar_exp("compare", *runs) == other.cifar_exp("compare", *runs)
    output = [project.cifar_exp("evaluate", runs[0], "--out", "e") for project in (original, other)]
    assert "not the images" not in "".join(output)
    assert output[0] == output[1]
    assert not (other.folder / "data").exists()  # the cache of the first project is used


@pytest.mark.integration
def test_a_moved_project_keeps_its_finished_runs(
    original: CommandLine, tmp_path: Path, command_line
) -> None:
    shutil.copytree(original.folder, tmp_path / "moved")
    moved = command_line(tmp_path / "moved")
    output = moved("-m", *FOLDER, "seed=0,1")
    assert f"uses the runs on {original.folder / 'photos'}, which had the same images" in output
    assert "sweep of 2 runs (2 finished before)" in output
    assert "finished before, not repeated" in moved(*FOLDER)
    assert len(list(moved.runs.iterdir())) == 2
    assert len(list(moved.runs.parent.glob("*/sweep.json"))) == 1
    output = moved("-m", *FOLDER, "seed=0,1,2")
    assert "sweep of 3 runs (2 finished before)" in output
    assert "3    complete" in output  # a mean over seeds
    (new,) = moved.runs.glob("*seed=2*")
    stored = yaml.safe_load((new / "config.yaml").read_text())
    assert stored["data"]["root"] == str(moved.folder / "photos")
    assert new.name.endswith(run_id(RunFolder(new).read_config()))


@pytest.mark.slow
@pytest.mark.integration
def test_moved_images_are_recognised_and_other_images_are_not(
    original: CommandLine, tmp_path: Path
) -> None:
    results = str(original.folder / "multirun_results")
    paths = Paths(results=results, cache=str(tmp_path / "cache"))
    moved = shutil.copytree(original.folder / "photos", tmp_path / "moved")
    others = make_photos(tmp_path / "others", seed=1)
    same, other = recognised(
        [RunConfig(data=ImageFolder(root=str(root)), paths=paths) for root in (moved, others)]
    )
    assert same.data.same_as == str(original.folder / "photos")
    assert other.data.same_as is None
    first = RunConfig(data=ImageFolder(root=str(original.folder / "photos")), paths=paths)
    assert run_id(same) == run_id(first)
    assert recognised([first]) == [first]


def stored_at(runs: Path, config: RunConfig) -> Path:
    folder = runs / f"x-{run_id(config)}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    return folder


@pytest.mark.parametrize("results", ["multirun_results", "out/here", "absolute"])
def test_relative_paths_of_earlier_versions_are_resolved_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(project)
    given = str(project / "results") if results == "absolute" else results
    config = RunConfig(data=ImageFolder(root="photos"), paths=Paths(results=given))
    run = stored_at(Path(given).absolute() / "runs", config)
    monkeypatch.chdir(elsewhere)
    read = RunFolder(run).read_config()
    assert isinstance(read.data, ImageFolder)
    assert read.data.root == str(project / "photos")
    assert run.name.endswith(run_id(read))


def test_stored_paths_are_absolute_except_those_with_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = RunConfig(
        data=ImageFolder(root="photos"), paths=Paths(logs="${oc.env:SCRATCH}/logs", cache="c")
    )
    stored = anchored(typed)
    assert isinstance(stored.data, ImageFolder)
    assert stored.data.root == str(tmp_path / "photos")
    assert stored.paths.cache == str(tmp_path / "c")
    assert stored.paths.logs == "${oc.env:SCRATCH}/logs"
    assert run_id(stored) == run_id(typed)
    assert anchored(RunConfig(data=Cifar10(root="d"))).data.root == str(tmp_path / "d")
    assert anchored(RunConfig(data=Synthetic())).data == Synthetic()


def test_a_moved_project_keeps_its_ids_and_uses_the_moved_images(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (new / "photos").mkdir(parents=True)
    config = RunConfig(
        data=ImageFolder(root=str(old / "photos")),
        model=Model(name="vgg11"),
        paths=Paths(results=str(old / "results"), logs=str(old / "logs"), cache="/other/cache"),
    )
    read = relocate(config, new / "results" / "runs" / "x")
    assert isinstance(read.data, ImageFolder)
    assert read.data.root == str(new / "photos")
    assert read.paths.results == str(new / "results")
    assert read.paths.logs == str(new / "logs")
    assert read.paths.cache == "/other/cache"
    assert run_id(read) == run_id(config)
    # only the results were moved
    (old / "photos").mkdir(parents=True)
    read = relocate(config, tmp_path / "alone" / "results" / "runs" / "x")
    assert read.data == config.data


def test_an_interrupted_run_resumes_after_a_move(tmp_path: Path, command_line) -> None:
    project = command_line(tmp_path / "project")
    project.folder.mkdir()
    make_photos(project.folder / "photos")
    project(*FOLDER, "epochs=2")
    state = json.loads((project.only_run / "run.json").read_text())
    (project.only_run / "run.json").write_text(json.dumps(state | {"status": "running"}))
    rows = read_rows(project.only_run)
    project.folder.rename(tmp_path / "moved")
    moved = command_line(tmp_path / "moved")
    moved(*FOLDER, "epochs=2")
    assert read_rows(moved.only_run) == rows  # resumed from the last checkpoint


def test_a_link_at_the_old_path_of_images_does_not_change_the_id(tmp_path: Path) -> None:
    old, new = tmp_path / "photos", tmp_path / "disk" / "photos"
    old.mkdir()
    typed = RunConfig(data=ImageFolder(root=str(old)), paths=Paths(results=str(tmp_path / "r")))
    folder, known = RunFolder.of(typed), run_id(typed)
    folder.claim(typed)
    new.parent.mkdir()
    old.rename(new)
    old.symlink_to(new)
    assert run_id(folder.read_config()) == known
    data = ImageFolder(root=str(new), same_as=str(old))  # as `recognised` sets it
    assert run_id(typed.model_copy(update={"data": data})) == known


def test_a_pipe_in_place_of_a_stored_config_does_not_hang(tmp_path: Path) -> None:
    config = RunConfig(data=ImageFolder(root=str(tmp_path)), paths=Paths(results=str(tmp_path)))
    (tmp_path / "runs" / "x").mkdir(parents=True)
    os.mkfifo(tmp_path / "runs" / "x" / "config.yaml")
    assert recognised([config]) == [config]
