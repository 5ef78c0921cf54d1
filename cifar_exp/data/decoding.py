"""One image file becomes RGB pixels, and what is wrong with a file is told in words."""

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

if TYPE_CHECKING:  # PIL is imported when an image is decoded; a cache does without
    from PIL.Image import Image

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it logs it raises as well

_WHOLE_BYTES = 2**26  # larger files are not read at once: they may be anything
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_ORIENTATION = 0x0112
_BITS = (8, 10, 12, 14, 16)  # that sensors and files have for a value
# What PIL raises for damaged bytes is nearly everything; a signal's exception is not among it.
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
    """No image can be had of a file; the text says why, and leaves the name to the caller."""


def read_image(path: str, image_size: int) -> NDArray[np.uint8]:
    """Decode a file as training sees it.

    Args:
        path: of an image of any format that PIL knows.
        image_size: pixels a side of the result, whatever the file's aspect.

    Returns:
        RGB. Shape: `(image_size, image_size, 3)`.

    Raises:
        UnreadableImage: it is no image, damaged, too large, or of floating-point pixels.
    """
    with opened(path) as image:
        return as_pixels(image, image_size)


def pixel_digest(pixels: NDArray[np.uint8]) -> bytes:
    """Return the SHA-256 of an image, the same for the same pixels in any format."""
    return hashlib.sha256(pixels.data).digest()


@contextmanager
def opened(path: str) -> Iterator["Image"]:
    """Open an image; what goes wrong while the block reads it is told as well.

    Raises:
        UnreadableImage: see `read_image`.
    """
    from PIL import Image, PngImagePlugin, UnidentifiedImageError

    PngImagePlugin.MAX_TEXT_CHUNK = _WHOLE_BYTES  # a long text beside the pixels is no damage
    try:
        with _content(path) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage that PIL passes over
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content) as image:
                yield image
    except UnidentifiedImageError as error:
        raise UnreadableImage("it is cut off, damaged or of an unknown format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(_too_large(str(error), Image.MAX_IMAGE_PIXELS)) from error
    except _DAMAGE as error:
        raise UnreadableImage(_reason(error)) from error


@contextmanager
def _content(path: str) -> Iterator[IO[bytes]]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise UnreadableImage("it is no regular file")
    if status.st_size == 0:
        raise UnreadableImage("it is empty")
    with open(path, "rb", buffering=0) as file:
        if status.st_size > _WHOLE_BYTES:
            yield file
            return
        content = file.read()  # PIL reads small files in twice the time
        yield io.BytesIO(_readable_png(content) if content.startswith(_PNG) else content)


def _readable_png(content: bytes) -> bytes:
    """Return a PNG without the damaged ones of the chunks that pixels do not need.

    PIL refuses a whole image for the checksum of a text in it.
    """
    parts, place = [_PNG], len(_PNG)
    while place + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        chunk = content[place : place + 12 + size]
        is_extra = kind[0] & 0x20 and kind != b"tRNS"
        if not is_extra or zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"):
            parts.append(chunk)
        place += 12 + size
    return b"".join(parts) + content[place:]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:  # from the system, not from PIL
        return error.strerror
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    detail = str(error) if isinstance(error, OSError | ValueError) else ""
    return "it is cut off or damaged" + (f" ({detail})" if detail else "")


def _too_large(message: str, limit: int | None) -> str:
    found = re.search(r"\d+", message)  # PIL tells the size in its message alone
    size = f"{int(found[0]):,}" if found else "too many"
    return f"it has {size} pixels, expected at most {limit:,}"


def as_pixels(image: "Image", image_size: int) -> NDArray[np.uint8]:
    """Turn an opened image upright, and into RGB of one size; of several frames, the first.

    Shape:
        `(image_size, image_size, 3)`
    """
    from PIL import Image

    rgb = _to_rgb(upright(image))
    if rgb.size != (image_size, image_size):
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(rgb)


def upright(image: "Image") -> "Image":
    """Return an image turned as its EXIF data says, as far as they can be read.

    `ImageOps.exif_transpose` writes the data anew as well, and fails where one tag of them is odd.
    """
    from PIL import Image

    image.load()  # what is wrong with the pixels is told
    try:
        turned = {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_270,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90,
        }.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # whatever PIL makes of such data
        return image
    return image if turned is None else image.transpose(turned)


def alterations(image: "Image") -> Iterator[str]:
    """Say in which ways an opened image has other pixels in the data set than in its file."""
    if image.mode.startswith("I"):
        bits = _bits_used(np.asarray(image))
        used = f", of which {bits} are used" if bits < 16 else ""
        yield f"16 bits a value{used}: reduced to 8"
    if image.mode == "CMYK":
        yield "CMYK: converted to RGB"
    if _is_transparent(image):
        yield "transparent: laid on white"


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode == "F":
        raise UnreadableImage("its pixels are floating-point numbers, of which no range is known")
    if image.mode.startswith("I"):  # 16 bits; converting would clip what is above 255
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        largest = 2 ** _bits_used(levels) - 1
        image = Image.fromarray(((levels * 255 + largest // 2) // largest).astype(np.uint8))
    if _is_transparent(image):  # without its alpha, colours would show that nobody sees
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _bits_used(levels: NDArray[np.generic]) -> int:
    """Return how many bits a value has: sensors of 12 bits are stored in files of 16."""
    largest = int(levels.max())
    return next((bits for bits in _BITS if largest < 2**bits), 16)


def _is_transparent(image: "Image") -> bool:
    if not image.has_transparency_data:
        return False
    alpha = image.convert("RGBA").getchannel("A")
    return bool(alpha.getextrema()[0] != 255)
