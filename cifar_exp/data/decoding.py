"""Decode image files into RGB pixels, and describe files that cannot be decoded."""

import hashlib
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # PIL is imported only when an image is decoded
    from PIL.Image import Image

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # errors are raised as well

_WHOLE_BYTES = 2**26  # larger files may be anything, and are not read into memory
_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PIXELS = 2**28  # of a file; decoded, they take 0.8 GB
_EXIF_ORIENTATION = 0x0112
_FIRST_TURNED = 5  # orientations from here on swap width and height
_BITS = (8, 10, 12, 14, 16)  # bits per channel of sensors and files
# Common in folders of photos, but not decoded: PostScript would start another program.
_UNSUPPORTED = (
    *(".heic", ".heif", ".svg", ".pdf", ".ps", ".eps", ".ai", ".jxl"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm"),
)
# Damaged bytes make PIL raise nearly any exception.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class UnreadableImage(Exception):
    """An image file cannot be decoded. The message is the reason, without the file name."""


def read_image(path: str, image_size: int) -> NDArray[np.uint8]:
    """Decode an image file as for training.

    Args:
        path: image file in any format that PIL reads.
        image_size: side of the result in pixels; the aspect ratio is not kept.

    Returns:
        RGB pixels.

    Raises:
        UnreadableImage: the file is not an image, is damaged or too large, or has
            floating-point pixels or values of more than 16 bits.

    Shape:
        `(image_size, image_size, 3)`
    """
    with opened(path) as image:
        return as_pixels(image, image_size)


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """Return the SHA-256 of decoded pixels, which does not depend on the file format."""
    return hashlib.sha256(pixels.data).digest()


@contextmanager
def opened(path: str) -> Iterator["Image"]:
    """Open an image file as a context.

    Raises:
        UnreadableImage: the file cannot be opened, or the block fails to read it.
    """
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    PngImagePlugin.MAX_TEXT_CHUNK = _WHOLE_BYTES  # allows long text chunks
    Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
    try:
        with _content(path) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damage that PIL tolerates
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content) as image:
                if image.format == "EPS":
                    raise UnidentifiedImageError
                yield image
    except UnidentifiedImageError as error:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in _UNSUPPORTED:
            reason = f"{suffix} files are not supported; use JPEG or PNG"
        else:
            reason = "damaged, truncated or of an unknown format"
        raise UnreadableImage(reason) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(_too_large(str(error), Image.MAX_IMAGE_PIXELS)) from error
    except _DAMAGE as error:
        raise UnreadableImage(_reason(error)) from error


@contextmanager
def _content(path: str) -> Iterator[IO[bytes]]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise UnreadableImage("not a regular file")
    if status.st_size == 0:
        raise UnreadableImage("the file is empty")
    with open(path, "rb", buffering=0) as file:
        if status.st_size > _WHOLE_BYTES:
            yield file
            return
        content = file.read()  # twice as fast as reading in PIL
        yield io.BytesIO(_readable_png(content) if content.startswith(_PNG) else content)


def _readable_png(content: bytes) -> bytes:
    """Return a PNG without damaged ancillary chunks, for which PIL would refuse the image."""
    parts, start = [_PNG], len(_PNG)
    while start + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        chunk = content[start : start + 12 + size]
        is_ancillary = kind[0] & 0x20 and kind != b"tRNS"
        if not is_ancillary or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"):
            parts.append(chunk)
        start += 12 + size
    return b"".join(parts) + content[start:]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # from the system, not from PIL
        return error.strerror
    if isinstance(error, MemoryError):
        return "not enough memory"
    detail = str(error) if isinstance(error, OSError | ValueError) else ""
    return "damaged or truncated" + (f" ({detail})" if detail else "")


def _too_large(message: str, limit: int | None) -> str:
    found = re.search(r"\d+", message)  # the size is only in PIL's message
    size = f"{int(found[0]):,}" if found else "too many"
    return f"expected at most {limit:,} pixels, got {size}"


def as_pixels(image: "Image", image_size: int) -> NDArray[np.uint8]:
    """Decode the first frame of an opened image.

    Args:
        image: image from `opened`.
        image_size: side of the result in pixels; the aspect ratio is not kept.

    Returns:
        RGB pixels, rotated according to the EXIF orientation.

    Raises:
        UnreadableImage: the pixels are floating-point numbers or exceed 16 bits.

    Shape:
        `(image_size, image_size, 3)`
    """
    from PIL import Image

    rgb = _to_rgb(upright(image))
    if rgb.size != (image_size, image_size):
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def upright_size(image: "Image") -> tuple[int, int]:
    """Return the width and height of an image that `upright` returns, without its pixels."""
    width, height = image.size
    return (height, width) if _orientation(image) >= _FIRST_TURNED else (width, height)


def _orientation(image: "Image") -> int:
    try:
        found = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # PIL may raise anything for damaged EXIF data
        return 1
    return found if found in range(1, 9) else 1


def upright(image: "Image") -> "Image":
    """Return an image rotated according to its EXIF orientation, if that can be read.

    `ImageOps.exif_transpose` also rewrites the EXIF data, and fails on unusual tags.
    """
    from PIL import Image

    image.load()  # raises errors of the pixels
    operation = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(_orientation(image))
    return image if operation is None else image.transpose(operation)


def alterations(image: "Image") -> Iterator[str]:
    """Yield descriptions of lossy conversions from an opened image to training pixels."""
    if image.mode.startswith("I"):
        bits = _bits_used(np.asarray(image))
        used = f", {bits} of them used" if bits < 16 else ""
        yield f"16 bits per channel{used}: reduced to 8"
    if image.mode == "CMYK":
        yield "CMYK: converted to RGB"
    if _is_transparent(image):
        yield "transparent: composited on white"


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImage("floating-point pixels are not supported: their range is unknown")
    if image.mode.startswith("I"):  # 16 bits; PIL would clip values above 255
        levels = np.asarray(image).astype(np.int64)
        low, high = levels.min(), levels.max()
        if low < 0 or high > 65535:
            raise UnreadableImage(f"expected pixel values from 0 to 65535, got {low} to {high}")
        largest = 2 ** _bits_used(levels) - 1
        image = Image.fromarray(((levels * 255 + largest // 2) // largest).astype(np.uint8))
    if _is_transparent(image):  # dropping alpha would show hidden colours
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _bits_used(levels: NDArray[np.generic]) -> int:
    """Return the number of bits that values use: 12-bit sensors are stored in 16-bit files."""
    largest = int(levels.max())
    return next((bits for bits in _BITS if largest < 2**bits), 16)


def _is_transparent(image: "Image") -> bool:
    if not image.has_transparency_data:
        return False
    alpha = image.convert("RGBA").getchannel("A")
    return bool(alpha.getextrema()[0] != 255)
