import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cifar_exp.config.identity import run_id
from cifar_exp.config.schema import RunConfig
from cifar_exp.data import cifar10
from cifar_exp.data.inspection import inspect_data
from cifar_exp.data.settings import Cifar10, Cifar100
from cifar_exp.data.sources import check, load
from cifar_exp.errors import UserError

NOWHERE = "http://127.0.0.1:9/cifar-10-python.tar.gz"  # the discard port: refused at once
FILES = "files (delete cifar-10-batches-py to extract them again)"
NAMES = ["airplane", "automobile", "bird"]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_batch(path: Path, first: int) -> None:
    """Write two images in CIFAR-10's layout: all red values, then green, then blue."""
    data = np.zeros((2, 3, 32, 32), np.uint8)
    data[0, 0, 0, 1] = first  # image 0, red, row 0, column 1
    data[1, 2, 1, 0] = first + 1  # image 1, blue, row 1, column 0
    path.write_bytes(pickle.dumps({"data": data.reshape(2, 3072), "labels": [2, 0]}))


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a small archive with MD5s that torchvision accepts, and block downloads."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "source" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        write_batch(folder / name, 10 * i)
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": NAMES}))
    path = tmp_path / "source" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    sums = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(path))
    monkeypatch.setattr(CIFAR10, "url", NOWHERE)
    return path


@pytest.fixture
def root(archive: Path, tmp_path: Path) -> Path:
    """Create a folder with the archive, not extracted."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / archive.name).write_bytes(archive.read_bytes())
    return folder


def test_an_archive_in_the_folder_is_extracted_and_read(root: Path) -> None:
    dataset = cifar10.load(root)
    assert dataset.train.images.shape == (10, 32, 32, 3)  # five batches of two
    assert dataset.test.images.shape == (2, 32, 32, 3)
    assert dataset.train.images.is_contiguous()
    # the values of write_batch: batch 2 starts with 10
    assert dataset.train.images[2, 0, 1].tolist() == [10, 0, 0]
    assert dataset.train.images[3, 1, 0].tolist() == [0, 0, 11]
    assert dataset.test.images[0, 0, 1].tolist() == [50, 0, 0]
    assert dataset.train.labels.tolist() == [2, 0] * 5
    assert dataset.classes == tuple(NAMES)


def test_extracted_files_need_no_archive(root: Path) -> None:
    first = cifar10.load(root)
    (root / "cifar-10-python.tar.gz").unlink()
    assert cifar10.load(root).digest() == first.digest()


def test_a_missing_archive_is_downloaded_and_kept(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", archive.as_uri())
    root = tmp_path / "new" / "data"  # created with its parents
    assert len(cifar10.load(root).train) == 10
    assert (root / archive.name).exists()
    assert capfd.readouterr() == ("", "")  # no progress bar without a terminal


def test_without_a_network_the_message_names_the_file_and_the_folder_to_copy_it_to(
    archive: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    with pytest.raises(UserError) as caught:
        cifar10.load(root)
    message = str(caught.value)
    assert NOWHERE in message
    assert "refused" in message  # the reason, from the system
    assert f"Copy cifar-10-python.tar.gz (MD5 {md5(archive)}) into {root}/" in message
    assert "data=synthetic" in message
    assert "data=image_folder" in message
    assert message.count("\n") <= 2


def test_a_download_that_is_not_the_archive_is_refused_and_not_kept(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "login.html"  # some networks answer each request with a login page
    page.write_text("<html>please log in</html>")
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", page.as_uri())
    with pytest.raises(UserError, match=f"expected MD5 .*, got {md5(page)}"):
        cifar10.load(tmp_path / "data")
    assert not (tmp_path / "data" / archive.name).exists()


def test_a_failed_download_leaves_no_partial_files(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    with pytest.raises(UserError):
        cifar10.load(root)
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_truncated_batch_is_named_and_not_changed(root: Path, name: str) -> None:
    cifar10.load(root)
    file = root / "cifar-10-batches-py" / name
    good = md5(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError) as caught:
        cifar10.load(root)
    message = str(caught.value)
    assert f"{file}: altered" in message
    assert f"expected MD5 {good}, got {md5(file)}" in message
    assert "Delete" in message
    assert md5(file) != good  # not overwritten


def test_a_missing_batch_is_named(root: Path) -> None:
    cifar10.load(root)
    file = root / "cifar-10-batches-py" / "data_batch_5"
    file.unlink()
    with pytest.raises(UserError, match=r"data_batch_5: .*missing.*got no such file"):
        cifar10.load(root)


def test_an_altered_archive_is_named_and_not_extracted(root: Path, archive: Path) -> None:
    file = root / archive.name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"expected MD5 {md5(archive)}, got {md5(file)}"):
        cifar10.load(root)
    assert not (root / "cifar-10-batches-py").exists()


def test_files_of_a_killed_process_are_deleted(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for _ in range(2):
        with pytest.raises(UserError):  # downloads are blocked
            cifar10.load(root)
        left = root / ".cifar10.staging"
        assert not left.exists()
        (left / "cifar-10-batches-py").mkdir(parents=True)  # as after a kill during extraction
        (left / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"half")
    (root / archive.name).write_bytes(archive.read_bytes())
    assert len(cifar10.load(root).train) == 10
    assert sorted(path.name for path in root.iterdir() if path.name != ".cifar10.lock") == [
        "cifar-10-batches-py",
        archive.name,
    ]


def hostile(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def test_an_archive_cannot_write_outside_of_its_folder(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "mine").write_text("unchanged")
    members = [
        hostile(f"{outside}/absolute"),
        hostile("../../outside/above"),
        hostile("cifar-10-batches-py/../../../outside/above"),
        hostile("cifar-10-batches-py/link", tarfile.SYMTYPE, str(outside)),
        hostile("cifar-10-batches-py/link/through"),
        hostile("data_batch_1", tarfile.SYMTYPE, str(outside / "mine")),
        hostile("data_batch_1"),
        hostile("hard", tarfile.LNKTYPE, str(outside / "mine")),
        hostile("device", tarfile.CHRTYPE),
        hostile("pipe", tarfile.FIFOTYPE),
    ]
    with tarfile.open(root / archive.name, "w:gz") as tar:
        for member in members:
            member.size = 4 if member.isfile() else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    before = sorted(root.parent.rglob("*"))
    with pytest.raises(UserError, match=f"{archive.name}: altered"):
        cifar10.load(root)
    # also for an archive with the right MD5
    monkeypatch.setattr("torchvision.datasets.CIFAR10.tgz_md5", md5(root / archive.name))
    with pytest.raises(UserError, match="data_batch_1: altered"):
        cifar10.load(root)
    assert (outside / "mine").read_text() == "unchanged"
    folder = root / "cifar-10-batches-py"
    written = {*root.parent.rglob("*")} - {*before, root / ".cifar10.lock", folder}
    assert written == {folder / name for name in ("absolute", "above", "through", "data_batch_1")}
    assert all(path.is_file() and not path.is_symlink() for path in written)


def test_valid_files_are_inspected(root: Path) -> None:
    (found,) = inspect_data(root, 32)
    assert found.problem_count == 0
    assert found.remarks["not extracted yet"] == ["training will extract cifar-10-python.tar.gz"]
    assert not (root / "cifar-10-batches-py").exists()  # not extracted by the inspection
    cifar10.load(root)
    (found,) = inspect_data(root, 32)
    assert found.problem_count == 0
    assert found.counts == {"train": {"airplane": 5, "bird": 5}, "test": {"airplane": 1, "bird": 1}}


def test_all_altered_files_and_the_archive_are_named(root: Path, archive: Path) -> None:
    cifar10.load(root)
    folder = root / "cifar-10-batches-py"
    for name in ("data_batch_2", "batches.meta"):
        (folder / name).write_bytes(b"altered")
    (folder / "test_batch").unlink()
    (root / archive.name).write_bytes(b"altered")
    (found,) = inspect_data(root, 32)
    assert [line.split(": ")[0] for line in found.problems[FILES]] == [
        str(folder / name) for name in ("data_batch_2", "test_batch", "batches.meta")
    ]
    assert [line.split(": ")[0] for line in found.problems["archive"]] == [str(root / archive.name)]
    assert found.counts == {}


@pytest.mark.usefixtures("archive")
def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # a file instead of a folder: fails for all users, also root
    root = tmp_path / "data"
    root.write_text("")
    with pytest.raises(UserError, match=r"data\.root=.*: cannot write CIFAR-10"):
        cifar10.load(root)


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a folder with a small archive in CIFAR-100's layout, and block downloads."""
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "source" / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"class {number}" for number in range(100)]
    for split, count in (("train", 300), ("test", 100)):
        data = np.arange(count, dtype=np.uint8)[:, None].repeat(3072, 1)
        labels = [row % 100 for row in range(count)]
        content = {"data": data, "fine_labels": labels, "coarse_labels": [0] * count}
        (folder / split).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    root = tmp_path / "data"
    root.mkdir()
    with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(CIFAR100, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", md5(folder / "test")]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": md5(folder / "meta")})
    monkeypatch.setattr(CIFAR100, "tgz_md5", md5(root / "cifar-100-python.tar.gz"))
    monkeypatch.setattr(CIFAR100, "url", NOWHERE)
    return root


def test_cifar100_is_extracted_read_and_checked(cifar100: Path) -> None:
    settings = Cifar100(root=str(cifar100), limit_train=200)
    assert check(settings) == (None, 100, 200, 32)
    dataset = load(settings, cifar100)
    assert (len(dataset.train), len(dataset.test)) == (200, 100)
    assert dataset.classes[99] == "class 99"
    assert dataset.test.labels.tolist() == list(range(100))
    (found,) = inspect_data(cifar100, 32)
    assert (found.title, found.problem_count) == (f"{cifar100}: CIFAR-100", 0)
    (cifar100 / "cifar-100-python" / "test").write_bytes(b"altered")
    with pytest.raises(UserError, match=r"cifar-100-python/test: altered"):
        load(settings, cifar100)


def test_the_location_of_cifar100_does_not_change_the_run_id() -> None:
    here, there = (RunConfig(data=Cifar100(root=root)) for root in ("a", "b"))
    assert run_id(here) == run_id(there) != run_id(RunConfig(data=Cifar10()))
