"""`python -m cifar_exp doctor`: each problem is a row, and a failure sets the exit status."""

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_exp.__main__ import main
from cifar_exp.cli import disk_checks, doctor, machine_checks
from cifar_exp.data import cifar10
from cifar_exp.runs.folder import RunFolder
from cifar_exp.training.cuda_graphs import CudaGraphs
from tests import processes

GB = 10**9


@pytest.fixture(autouse=True)
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with free space, no GPU and fast disks."""
    monkeypatch.chdir(tmp_path)
    set_free_space(monkeypatch, 100 * GB)
    monkeypatch.setattr(machine_checks, "_driver", lambda: "")
    monkeypatch.setattr(machine_checks, "_cores", lambda: 1000)
    monkeypatch.setattr(disk_checks, "_SLOW_WRITE_SECONDS", 1000)


def set_free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil._ntuple_diskusage(100 * GB, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def table_of(
    arguments: list[str], width: int, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> str:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "columns", lambda: width)
    monkeypatch.setattr(sys, "argv", ["cifar_exp", "doctor", *arguments])
    for name in ("stdout", "stderr"):  # the program replaces both
        monkeypatch.setattr(sys, name, getattr(sys, name))
    assert main() == status
    printed: str = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    return printed


def test_the_table_of_a_healthy_machine_fits_and_the_status_is_0(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = table_of([], 60, 0, monkeypatch, capsys)
    for check in ("packages", "GPU", "free space", "atomic rename", "locks", "threads", "data"):
        assert check in printed
    assert "failed: 0, warnings: 1" in printed  # about missing images
    assert not list(tmp_path.iterdir())


def test_a_failure_is_a_row_and_status_1_and_the_other_checks_run(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    printed = table_of(["--results", "file"], 80, 1, monkeypatch, capsys)
    assert "failed: NotADirectoryError" in printed
    assert "paths.results=FOLDER" in printed
    assert "failed: 2, warnings: 1" in printed


@pytest.mark.parametrize(
    ("free", "level"), [(GB // 2, "failed"), (2 * GB, "warning"), (9 * GB, "ok")]
)
def test_free_space_is_compared_with_the_needs_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    set_free_space(monkeypatch, free)
    assert disk_checks.check_free_space(tmp_path).level == level


def test_a_file_that_is_not_replaced_atomically_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        disk_checks, "write_bytes", lambda path, content: path.write_bytes(content[:9])
    )
    result = disk_checks.check_atomic_rename(tmp_path)
    assert (result.level, result.found) == (
        "failed",
        "while a file was replaced, a read was incomplete",
    )


def test_a_slow_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_checks, "_SLOW_WRITE_SECONDS", 0)
    assert disk_checks.check_atomic_rename(tmp_path).level == "warning"


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the other process from one that has imported all modules."""
    monkeypatch.setattr(disk_checks, "get_context", lambda _: processes._context)


def test_a_lock_that_other_processes_do_not_see_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_start: None
) -> None:
    @contextmanager
    def lock(run: RunFolder) -> Iterator[None]:
        run.path.mkdir(exist_ok=True)
        yield

    monkeypatch.setattr(RunFolder, "lock", lock)  # in this process
    result = disk_checks.check_locks(tmp_path)
    assert result.level == "failed"
    assert "other processes do not see a lock" in result.found


def test_a_lock_that_outlives_its_process_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_start: None
) -> None:
    monkeypatch.setattr(disk_checks, "_is_locked", lambda _: True)
    result = disk_checks.check_locks(tmp_path)
    assert result.level == "failed"
    assert "remains after its process is killed" in result.found


def test_locks_of_nfs_that_other_machines_do_not_see_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_start: None
) -> None:
    options = {"rw", "local_lock=flock"}
    monkeypatch.setattr(disk_checks, "_file_system", lambda _: ("nfs", options))
    result = disk_checks.check_locks(tmp_path)
    assert result.level == "warning"
    assert "local_lock=flock" in result.found


def test_a_missing_package_fails_and_another_version_of_an_optional_one_warns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requirements = ["numpy>=2", 'pytest<1; extra == "test"', 'no-such-package; extra == "test"']
    monkeypatch.setattr(machine_checks.metadata, "requires", lambda _: requirements)
    result = machine_checks.check_packages()
    assert result.level == "warning"
    assert result.found.startswith("pytest ")
    assert result.found.endswith("is not <1")
    requirements.append("no-such-package>=1")
    assert machine_checks.check_packages()[:2] == ("failed", "not installed: no-such-package")


def test_a_gpu_that_pytorch_does_not_find_fails_unless_the_user_hides_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine_checks, "_driver", lambda: "450.1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def is_available() -> bool:
        warnings.warn("CUDA initialization: the driver is too old. Update it.", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    result = machine_checks.check_gpu()
    assert result.level == "failed"
    assert "driver 450.1" in result.found
    assert result.found.endswith(": CUDA initialization: the driver is too old")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine_checks.check_gpu().level == "ok"


@pytest.mark.gpu
def test_captured_steps_are_compared_with_eager_steps_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = machine_checks.check_gpu()
    assert result.level == "ok", result
    assert "captured steps equal eager ones" in result.found
    monkeypatch.setattr(CudaGraphs, "__call__", lambda *_: None)
    result = machine_checks.check_gpu()
    assert result.level == "failed"
    assert "differ" in result.found


@pytest.mark.gpu
def test_steps_that_cannot_be_captured_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(CudaGraphs, "capture", refuse)
    assert machine_checks.check_gpu().level == "warning"


def test_more_threads_than_cores_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    result = machine_checks.check_threads()
    assert (result.level, result.advice) == ("warning", "set OMP_NUM_THREADS=2")


def test_too_little_shared_memory_for_several_gpus_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_free_space(monkeypatch, 64 * 10**6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert machine_checks.check_shared_memory().level == "ok"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--shm-size" in machine_checks.check_shared_memory().advice


def altered(root: Path, _: pytest.MonkeyPatch) -> None:
    (root / "cifar-10-batches-py").mkdir(parents=True)


def published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered(root, monkeypatch)
    monkeypatch.setattr(cifar10, "altered_files", lambda _: iter(()))


def cut_archive(root: Path, _: pytest.MonkeyPatch) -> None:
    root.mkdir()
    (root / "cifar-10-python.tar.gz").touch()


def images(root: Path, _: pytest.MonkeyPatch) -> None:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (root / name).mkdir(parents=True)
        (root / name / "1.png").touch()


DATA: dict[Callable[[Path, pytest.MonkeyPatch], None], tuple[str, str]] = {
    altered: ("failed", "MD5"),
    published: ("ok", "checksums match"),
    cut_archive: ("failed", "MD5"),
    images: ("ok", "4 images"),
}


@pytest.mark.parametrize("make", DATA)
def test_data_is_cifar10_folders_of_images_or_an_altered_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    make(tmp_path / "data", monkeypatch)
    level, found = DATA[make]
    for folder in (None, tmp_path / "data"):
        result = machine_checks.check_images(folder)
        assert result.level == level
        assert found in result.found


def test_missing_data_fails_only_with_a_folder_on_the_command_line(tmp_path: Path) -> None:
    assert machine_checks.check_images(None).level == "warning"
    assert machine_checks.check_images(tmp_path / "nowhere").level == "failed"
