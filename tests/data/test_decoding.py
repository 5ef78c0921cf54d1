import io
import logging
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from cifar_exp.data.decoding import (
    UnreadableImage,
    alterations,
    opened,
    pixel_digest,
    read_image,
)

GREEN = (0, 255, 0)


def noise(seed: int = 0, size: int = 12) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def animated(kind: str) -> bytes:
    """Encode a green frame and a frame of noise."""
    first = Image.new("RGB", (12, 12), GREEN)
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=[noise()], **options)


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG with another size in its header and a valid checksum."""
    good = encoded(noise(), "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + good[24:29]
    return good[:12] + header + struct.pack(">I", zlib.crc32(header)) + good[33:]


@pytest.mark.parametrize("size", [(16_385, 16_385), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_above_the_limit_is_refused_with_its_size(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    # PIL warns of the first, and raises for the others
    (tmp_path / "a.png").write_bytes(png_claiming(*size))
    expected = f"expected at most 268,435,456 pixels, got {size[0] * size[1]:,}"
    with pytest.raises(UnreadableImage, match=expected):
        read_image(str(tmp_path / "a.png"), 32)


def test_a_large_image_below_the_limit_is_read(tmp_path: Path) -> None:
    Image.new("L", (8000, 8000), 77).save(tmp_path / "a.png")
    assert read_image(str(tmp_path / "a.png"), 32)[16, 16].tolist() == [77, 77, 77]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_used(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(animated(kind))
    assert read_image(str(tmp_path / "a"), 32)[16, 16].tolist() == list(GREEN)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "unknown format"),
        (encoded(noise(), "PNG")[:200], "truncated"),
        (encoded(Image.new("F", (12, 12)), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "half", "floating point"],
)
def test_the_reason_is_reported(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason):
        read_image(str(tmp_path / "a"), 32)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        read_image(str(tmp_path / "a.png"), 32)


def test_a_large_file_that_is_not_an_image_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "movie.mp4").open("wb") as file:
        file.truncate(2**30)  # a sparse file
    tracemalloc.start()
    with pytest.raises(UnreadableImage):
        read_image(str(tmp_path / "movie.mp4"), 32)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**25


def test_the_digest_of_pixels_does_not_depend_on_the_format(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.tif"):
        noise().save(tmp_path / name)
    noise(1).save(tmp_path / "other.png")
    digests = {path: pixel_digest(read_image(str(path), 32)) for path in tmp_path.iterdir()}
    other = digests.pop(tmp_path / "other.png")
    assert len(set(digests.values())) == 1
    assert other not in digests.values()


FORMATS = {
    "PNG": encoded(noise(), "PNG"),
    "PNG of a palette": encoded(noise().quantize(), "PNG", transparency=b"\x00\x80"),
    "PNG, animated": animated("PNG"),
    "JPEG": encoded(noise(), "JPEG"),
    "JPEG in CMYK": encoded(noise().convert("CMYK"), "JPEG"),
    "GIF": encoded(noise(), "GIF"),
    "GIF, animated": animated("GIF"),
    "BMP": encoded(noise(), "BMP"),
    "TIFF": encoded(noise(), "TIFF"),
    "TIFF, compressed": encoded(noise(), "TIFF", compression="tiff_lzw"),
    "WebP": encoded(noise(), "WEBP"),
    "WebP, animated": animated("WEBP"),
    "ICO": encoded(noise(), "ICO", bitmap_format="bmp", sizes=[(12, 12)]),
    "PPM": encoded(noise(), "PPM"),
}
if features.check("avif"):  # since Pillow 11.3
    FORMATS["AVIF"] = encoded(noise(), "AVIF")


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_bytes_give_an_image_or_a_reason(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    # warnings are errors in tests
    choose, path, results = random.Random(1), tmp_path / "a", set()
    with caplog.at_level(logging.DEBUG, "cifar_exp"):
        for _ in range(200):
            content = bytearray(FORMATS[kind])
            for _ in range(choose.choice([1, 1, 2, 4])):
                content[choose.randrange(len(content))] = choose.randrange(256)
            path.write_bytes(content[: choose.choice([None, None, None, -20])])
            try:
                pixels = read_image(str(path), 32)
                assert pixels.shape == (32, 32, 3)
                assert pixels.dtype == np.uint8
                results.add("image")
            except UnreadableImage:
                results.add("reason")
    assert results == {"image", "reason"}
    assert caplog.text == ""


def exif(*tags: tuple[int, int, int, bytes]) -> bytes:
    """Encode EXIF data from raw tags: number, type, count, and a value of up to 4 bytes."""
    table = b"".join(struct.pack("<HHI4s", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4)


ROTATED = (0x0112, 3, 1, b"\6\0\0\0")  # by 90 degrees, clockwise


@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 2, 3, b"72\0\0"),  # a resolution as text
        (0x0100, 9, 1, b"\xff\xff\xff\xff"),  # a width of -1
        (0x011A, 99, 1, bytes(4)),  # of an unknown type
        (0x8769, 4, 1, b"\xff\xff\0\0"),  # more tags after the end of the file
    ],
    ids=["text", "negative", "unknown type", "outside"],
)
def test_a_photo_with_damaged_exif_data_is_rotated(
    tmp_path: Path, odd: tuple[int, int, int, bytes]
) -> None:
    image = Image.new("RGB", (40, 20), "blue")
    image.paste(GREEN, (0, 0, 20, 20))  # the left half, which becomes the top
    (tmp_path / "a.jpg").write_bytes(encoded(image, "JPEG", exif=exif(ROTATED, odd), quality=95))
    pixels = read_image(str(tmp_path / "a.jpg"), 32)
    assert pixels[4, 16, 1] > 200 > 50 > pixels[28, 16, 1]


def test_unreadable_exif_data_are_ignored(tmp_path: Path) -> None:
    for number, data in enumerate((b"Exif\0\0", b"Exif\0\0no header", exif(ROTATED)[:20])):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encoded(Image.new("RGB", (40, 20), GREEN), "JPEG", exif=data))
        assert read_image(str(path), 32)[16, 16, 1] > 200


def png_chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    found = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", found)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"a\0b", checksum=1),
        png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
        png_chunk(b"eXIf", b"nonsense"),
    ],
    ids=["a wrong checksum", "a long text", "no EXIF data"],
)
def test_damaged_metadata_of_a_png_are_ignored(tmp_path: Path, chunk: bytes) -> None:
    good = encoded(noise(), "PNG")
    (tmp_path / "a.png").write_bytes(good[:33] + chunk + good[33:])
    (tmp_path / "b.png").write_bytes(good)
    first, second = (read_image(str(tmp_path / name), 32) for name in ("a.png", "b.png"))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_values_of_fewer_bits_in_a_16_bit_file_are_scaled(tmp_path: Path, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 32).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (32, 1))).save(tmp_path / "a.png")
    pixels = read_image(str(tmp_path / "a.png"), 32)
    assert pixels[0, :, 0].tolist() == pytest.approx(np.linspace(0, 255, 32), abs=1)
    with opened(str(tmp_path / "a.png")) as image:
        (alteration,) = alterations(image)
    used = f", {bits} of them used" * (bits < 16)
    assert alteration == f"16 bits per channel{used}: reduced to 8"


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_of_more_than_16_bits_are_refused(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.array([[0, value]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match=f"expected pixel values from 0 to 65535, .*{value}"):
        read_image(str(tmp_path / "a.tif"), 32)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.HEIC", b"\0\0\0\x18ftypheic"),
        ("a.svg", b"<svg/>"),
        ("a.pdf", b"%PDF-1.7"),
        ("a.eps", encoded(noise(), "EPS")),  # PIL would start Ghostscript
    ],
)
def test_unsupported_formats_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    suffix = name[1:].lower()
    with pytest.raises(UnreadableImage, match=f"^\\{suffix} files are not supported; use"):
        read_image(str(tmp_path / name), 32)


@pytest.mark.parametrize("orientation", range(10))
def test_all_exif_orientations_are_applied(tmp_path: Path, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    noise().save(tmp_path / "a.png", exif=tag)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(str(tmp_path / "a.png"), 12), expected)


def test_transparent_images_are_composited_on_white(tmp_path: Path) -> None:
    hidden = np.full((32, 32, 4), (255, 0, 255, 255), np.uint8)
    hidden[:16, :, 3] = 0
    Image.fromarray(hidden).save(tmp_path / "a.png")
    palette = Image.fromarray(hidden[..., :3]).quantize(2)
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((0, 0)))
    pixels = read_image(str(tmp_path / "a.png"), 32)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[31, 0].tolist() == [255, 0, 255]
    assert read_image(str(tmp_path / "b.png"), 32)[0, 0].tolist() == [255, 255, 255]
    Image.fromarray(np.full((32, 32, 4), 255, np.uint8)).save(tmp_path / "c.png")
    for name, expected in (("a.png", ["transparent: composited on white"]), ("c.png", [])):
        with opened(str(tmp_path / name)) as image:
            assert list(alterations(image)) == expected
