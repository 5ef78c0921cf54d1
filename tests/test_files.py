"""Reading, writing and deleting files without following links or blocking."""

import errno
import os
from pathlib import Path

import pytest
from filelock import FileLock

from cifar_exp.errors import UserError
from cifar_exp.files import (
    is_locked,
    open_to_append,
    read_text,
    refuse_links,
    remove_files,
    remove_temporaries,
    sha256,
    write_atomically,
    write_json,
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the user with files that have the names of the program's files."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in (".run.json.1.tmp", "run.json", "step-1.pt", "notes.txt"):
        (mine / name).write_text("mine")
    return mine


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_temporary_files_of_the_program_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "figures").mkdir(parents=True)
    removed = [".run.json.12.tmp", "figures/.a.png.3.tmp"]
    kept = [".run.json.tmp", ".notes.12.tmp", ".run.json.x.tmp", "figures/.run.json.1.tmp"]
    for name in removed + kept:
        (folder / name).touch()
    remove_temporaries(folder, "run.json", "figures/*.png")
    assert not [name for name in removed if (folder / name).exists()]
    assert all((folder / name).exists() for name in kept)


def test_links_are_not_followed_when_files_are_removed(tmp_path: Path, mine: Path) -> None:
    before = files(mine)
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("figures", "checkpoints"):
        (folder / name).symlink_to(mine)
    (folder / "again").symlink_to(folder)  # a loop
    (folder / ".run.json.7.tmp").symlink_to(mine / "notes.txt")
    remove_temporaries(folder, "run.json", "figures/*", "*/*", "checkpoints/*")
    remove_files(folder / "checkpoints", "step-*.pt", "*")
    assert files(mine) == before
    assert (folder / "checkpoints").is_symlink()
    assert (folder / ".run.json.7.tmp").is_symlink()


def test_a_folder_keeps_other_files(mine: Path) -> None:
    (mine / "step-2.pt").symlink_to(mine / "notes.txt")
    remove_files(mine, "step-*.pt")
    assert files(mine) == [".run.json.1.tmp", "notes.txt", "run.json", "step-2.pt"]
    remove_files(mine, "*")
    assert files(mine) == ["step-2.pt"]


def test_a_link_is_replaced_when_a_file_is_written(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "run.json").symlink_to(mine / "run.json")
    (tmp_path / f".run.json.{os.getpid()}.tmp").symlink_to(mine / "notes.txt")
    write_json(tmp_path / "run.json", {"new": 1})
    assert read_text(tmp_path / "run.json") == '{\n  "new": 1\n}\n'
    assert {(mine / name).read_text() for name in ("run.json", "notes.txt")} == {"mine"}


def test_unchanged_content_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    write_json(file, {"a": 1})
    before = file.stat()
    write_json(file, {"a": 1})
    assert file.stat().st_ino == before.st_ino
    write_json(file, {"a": 2})
    assert file.stat().st_ino != before.st_ino


def test_a_write_error_names_the_file(tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/curves\.png'$"):
        write_atomically(tmp_path / "curves.png", full)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "gigabytes"])
def test_pipes_devices_and_huge_files_are_not_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "run.json"
    match kind:
        case "pipe":
            os.mkfifo(file)
        case "device":
            file.symlink_to("/dev/zero")
        case "folder":
            file.mkdir()
        case "gigabytes":
            file.touch()
            os.truncate(file, 2**33)
    with pytest.raises(OSError, match="expected"):
        read_text(file)
    if kind != "gigabytes":
        with pytest.raises(OSError, match="expected a regular file"):
            sha256(file)


def test_links_and_pipes_are_not_opened_for_appending(tmp_path: Path, mine: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(mine / "notes.txt")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=r"No such device|symbolic links"):
            open_to_append(tmp_path / name)
    assert (mine / "notes.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        open_to_append(tmp_path / "new", create=False)
    for _ in range(2):
        with open_to_append(tmp_path / "new") as file:
            file.write("line\n")
    assert (tmp_path / "new").read_text() == "line\nline\n"


def test_only_the_results_folder_may_be_a_link(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "results").symlink_to(mine)
    run = tmp_path / "results" / "runs" / "a"
    run.mkdir(parents=True)
    refuse_links(run / "evaluation" / "test", run)
    (run / "evaluation").symlink_to(mine)
    with pytest.raises(UserError, match=r"evaluation: expected a folder, got a symbolic link"):
        refuse_links(run / "evaluation" / "test", run)


def test_checking_a_lock_does_not_create_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    assert not is_locked(file)
    assert not file.exists()
    with FileLock(file):
        assert is_locked(file)
    file.chmod(0o400)
    assert not is_locked(file)
