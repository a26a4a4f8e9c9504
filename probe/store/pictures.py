"""Pictures as PNG, with the run's id in a text chunk."""

import io
import struct
import zlib

from PIL import Image, PngImagePlugin

from probe.errors import BadInput, DamagedFile
from probe.store.manifest import REMEDY

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
PIXELS = 2**26  # 8192 x 8192
START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def encode_picture(picture: Image.Image, run: str) -> bytes:
    """A PNG file without loss. Raises BadInput for a picture that PNG cannot hold."""
    if picture.mode not in MODES:
        raise BadInput(f"a picture has mode {picture.mode!r}, expected one of {', '.join(MODES)}: convert it first")
    info = PngImagePlugin.PngInfo()
    info.add_text("probe:run", run)
    sink = io.BytesIO()
    picture.save(sink, format="PNG", pnginfo=info)
    return sink.getvalue()


def decode_picture(data: bytes, name: str) -> Image.Image:
    """The picture of a PNG file. Raises DamagedFile; a picture of more than 8192 x 8192 pixels is refused unread."""
    width, height = _size(data, name)
    if not 0 < width * height <= PIXELS:
        raise DamagedFile(f"{name} declares {width} x {height} pixels, too many for a trace. {REMEDY}")
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
        picture.load()
    except (OSError, SyntaxError, ValueError, zlib.error, struct.error) as error:
        raise DamagedFile(f"{name} is not a readable PNG ({error}). {REMEDY}") from error
    return picture


def _size(data: bytes, name: str) -> tuple[int, int]:
    if not data.startswith(START) or len(data) < len(START) + 8:
        raise DamagedFile(f"{name} does not begin like a PNG. {REMEDY}")
    width, height = struct.unpack_from(">II", data, len(START))
    return width, height
