"""Images, classes and formats of an image folder."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_exp.data import image_folder, sources
from cifar_exp.data.settings import ImageFolder
from cifar_exp.errors import UserError
from tests.data.image_files import GREEN, RED, first_image, load, noise, save


def test_images_are_sorted_by_class_and_name(root: Path) -> None:
    dataset = load(root)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.labels.tolist() == [0, 0, 1, 1]
    assert dataset.test.labels.tolist() == [0, 1]
    for row, seed in enumerate((0, 1, 3, 4)):  # the seeds of the fixture
        assert np.array_equal(dataset.train.images[row].numpy(), np.asarray(noise(seed)))


def test_folders_inside_a_class_belong_to_it(root: Path) -> None:
    save(root / "train" / "cat" / "2024" / "may" / "c.png")
    assert load(root).train.labels.tolist() == [0, 0, 0, 1, 1]


def test_hidden_and_other_files_are_ignored(root: Path) -> None:
    for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "labels.csv", "README.md"):
        (root / "train" / "cat" / name).write_bytes(b"not an image")
    save(root / "train" / ".cache" / "x.png")
    (root / "train" / "notes.txt").write_text("not a class")
    assert load(root).train.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "ppm", "webp", "PNG"])
def test_common_formats_keep_their_colour(root: Path, suffix: str) -> None:
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    save(root / "train" / "cat" / f"A.{suffix}", **options)  # sorted before a.png
    assert first_image(root)[5, 5].tolist() == [255, 0, 0]


def test_a_jpeg_has_the_pixels_that_pil_gives(root: Path) -> None:
    save(root / "train" / "cat" / "A.jpg", noise(9))
    with Image.open(root / "train" / "cat" / "A.jpg") as image:
        assert np.array_equal(first_image(root), np.asarray(image))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (32, 32), 77), [77, 77, 77]),
        (Image.new("1", (32, 32), 1), [255, 255, 255]),
        (Image.new("RGB", (32, 32), GREEN).quantize(), [0, 255, 0]),
        (Image.new("RGBA", (32, 32), (*GREEN, 128)), [127, 255, 127]),  # on white
        (Image.new("LA", (32, 32), (77, 10)), [248, 248, 248]),
        # 16 bits: 65535 is white, and 20000 / 65535 * 255 = 77.8; clipping would give 255
        (Image.fromarray(np.full((32, 32), 65535, np.uint16)), [255, 255, 255]),
        (Image.fromarray(np.full((32, 32), 20000, np.uint16)), [78, 78, 78]),
    ],
    ids=["gray", "bits", "palette", "alpha", "gray alpha", "16-bit white", "16-bit gray"],
)
def test_every_kind_of_pixel_becomes_rgb(
    root: Path, image: Image.Image, expected: list[int]
) -> None:
    save(root / "train" / "cat" / "A.png", image)
    assert first_image(root)[5, 5].tolist() == expected


def test_a_palette_with_transparency_is_read_without_a_warning(root: Path) -> None:
    image = Image.new("RGB", (32, 32), GREEN).quantize()
    save(root / "train" / "cat" / "A.png", image, transparency=b"\x00\x80")
    assert first_image(root)[5, 5].tolist() == [255, 255, 255]  # laid on white


def test_cmyk_becomes_rgb(root: Path) -> None:
    save(root / "train" / "cat" / "A.tif", Image.new("RGB", (32, 32), RED).convert("CMYK"))
    assert first_image(root)[5, 5].tolist() == [255, 0, 0]


def test_a_rotated_photo_is_set_upright(root: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste(RED, (0, 0, 32, 16))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: rotated by 180 degrees
    save(root / "train" / "cat" / "A.png", image, exif=exif)
    assert first_image(root)[31, 5].tolist() == [255, 0, 0]


def test_other_sizes_are_resized_with_antialiasing(root: Path) -> None:
    # black and white columns of one pixel: their mean is gray, nearest pixels are not
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    save(root / "train" / "cat" / "A.png", Image.fromarray(stripes))
    assert abs(int(first_image(root)[16, 16, 0]) - 127) <= 2


def test_images_have_the_requested_size(root: Path) -> None:
    save(root / "train" / "cat" / "wide.png", noise(1, 50).resize((100, 40)))
    assert load(root, image_size=48).train.images.shape == (5, 48, 48, 3)


@pytest.mark.parametrize("missing", ["", "train", "test"])
def test_a_missing_folder_is_named(root: Path, missing: str) -> None:
    shutil.rmtree(root / missing)
    with pytest.raises(UserError, match=f"{root / missing}: folder not found[.] Expected"):
        load(root)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"")
    with pytest.raises(UserError, match=r"photos\.zip: expected a folder, got a file\. Expected"):
        load(archive)


@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "train")])
def test_a_class_missing_in_one_split_is_named(root: Path, split: str, other: str) -> None:
    save(root / split / "horse" / "a.png")
    with pytest.raises(UserError, match=f"{root / other}: class 'horse' not found[.]"):
        load(root)


def test_a_misspelt_class_is_reported_with_the_nearest_name(root: Path) -> None:
    save(root / "train" / "horse" / "a.png")
    save(root / "test" / "hrose" / "a.png")
    with pytest.raises(UserError, match=r"class 'horse' not found; is 'hrose' misspelt"):
        load(root)


def test_an_empty_class_is_named(root: Path) -> None:
    (root / "test" / "dog" / "a.png").unlink()
    with pytest.raises(UserError, match=f"{root / 'test' / 'dog'}: contains no images"):
        load(root)


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "pets" / "train" / "a.png")
    save(tmp_path / "pets" / "test" / "a.png")
    with pytest.raises(UserError, match="expected at least 2 class folders, found 0"):
        load(tmp_path / "pets")


def encoded(name: str) -> bytes:
    stream = io.BytesIO()
    noise(1).save(stream, name)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", encoded("JPEG")[:600], encoded("PNG")[:1000], b"hello"],
    ids=["empty", "half a JPEG", "half a PNG", "text"],
)
def test_an_unreadable_image_is_named(root: Path, content: bytes) -> None:
    file = root / "test" / "dog" / "broken.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"{file}: cannot read the image"):
        load(root)


def test_the_first_of_several_problems_is_reported_with_the_command_that_lists_all(
    root: Path,
) -> None:
    save(root / "train" / "horse" / "a.png")
    save(root / "train" / "cow" / "a.png")
    with pytest.raises(UserError) as caught:
        load(root)
    first, second = str(caught.value).splitlines()
    assert "class 'cow' not found" in first
    assert second == (
        f"This is one of 2 problems. To list all: python -m cifar_exp check-data {root}"
    )


def test_test_images_that_are_training_images_are_reported_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(root / "test" / "cat" / "seen.bmp", noise(0))  # the first cat in another format
    save(root / "test" / "dog" / "seen.png", noise(1))  # the second cat as a dog
    load(root)
    assert "2 of 4 test images are also training images" in caplog.text
    assert f"python -m cifar_exp check-data {root}" in caplog.text
    caplog.clear()
    load(root)
    assert caplog.text == ""
    image_folder._warn_once.cache_clear()  # a new process, which reads the cache
    dataset = load(root)
    assert dataset.shared == 2
    assert "2 of 4 test images are also training images" in caplog.text


def test_duplicates_within_a_split_are_not_reported(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(root / "train" / "cat" / "again.png", noise(0))
    with caplog.at_level("WARNING", "cifar_exp"):
        load(root)
    assert caplog.text == ""


def test_a_file_that_is_not_an_image_is_named(root: Path) -> None:
    (root / "train" / "dog" / "movie.mp4").write_bytes(b"\x00" * 100)
    with pytest.raises(UserError, match=r"movie\.mp4"):
        load(root)


def test_a_link_to_nowhere_is_named(root: Path) -> None:
    (root / "train" / "dog" / "gone.png").symlink_to(root / "none.png")
    with pytest.raises(UserError, match=r"gone\.png: cannot read the image: No such file"):
        load(root)


def test_floating_point_pixels_are_refused(root: Path) -> None:
    save(root / "train" / "dog" / "depth.tif", Image.new("F", (32, 32), 0.5))
    with pytest.raises(UserError, match=r"depth\.tif"):
        load(root)


def test_lossy_conversions_are_reported_once(root: Path, caplog) -> None:
    transparent = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    for split in ("train", "test"):
        transparent.save(root / split / "cat" / "transparent.png")
    with caplog.at_level("WARNING", "cifar_exp"):
        load(root)
        load(root)
    messages = [message for message in caplog.messages if "white" in message]
    assert messages == ["2 images: transparent: composited on white"]


def test_images_keep_their_file_names(root: Path) -> None:
    for source in ("decoded", "cached"):
        dataset = load(root)
        assert dataset.test.files == ["test/cat/a.png", "test/dog/a.png"], source
    config = ImageFolder(root=str(root), limit_train=2, val_fraction=0.5)
    (root / "train" / "cat" / "b.png").rename(root / "train" / "cat" / "c.png")
    held = sources.load(config.model_copy(update={"limit_train": None}), root.parent / "cache")
    assert len({*held.train.files, *held.test.files}) == 4
    for split in (held.train, held.test):
        for file, image in zip(split.files, split.images, strict=True):
            with Image.open(root / file) as expected:
                assert np.array_equal(image.numpy(), np.asarray(expected))
