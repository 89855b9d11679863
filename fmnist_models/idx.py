"""Files in the format of MNIST: compressed arrays of bytes, read and verified."""

from __future__ import annotations

import gzip
import stat
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

MAGIC_OF_IMAGES, MAGIC_OF_LABELS = 0x803, 0x801
_MAGIC_OF_GZIP = b"\x1f\x8b"


class DatasetError(UserError):
    """The images cannot be read, or have wrong contents."""


def refuse_special(file: Path) -> None:
    """Refuse a pipe or a device, because reading it may never end.

    Raises:
        DatasetError: it is neither a file nor a folder.
    """
    try:
        mode = file.stat().st_mode
    except OSError:
        # The reader of the file reports the error.
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DatasetError(f"{file} is a pipe or a device: make it a readable file")


def decoded(file: Path) -> bytes:
    """The content of a compressed file.

    Raises:
        DatasetError: it is missing, empty, truncated, damaged, or no gzip file.
    """
    refuse_special(file)
    try:
        compressed = file.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{file} is missing: the folder must hold all four files") from None
    except OSError as error:
        raise DatasetError(
            f"{file} cannot be read ({error.strerror}): make it a readable file"
        ) from error
    if not compressed:
        raise DatasetError(f"{file} is empty: copy it again")
    try:
        return gzip.decompress(compressed)
    except EOFError:
        raise DatasetError(f"{file} is truncated: copy it again") from None
    except gzip.BadGzipFile as error:
        if not compressed.startswith(_MAGIC_OF_GZIP):
            why = "is not a gzip file: compress it, or copy it again"
        elif "CRC" in str(error):
            why = "is damaged (CRC error: a byte of it was changed): copy it again"
        elif "length" in str(error):
            why = "is damaged (its length is not what it says): copy it again"
        else:
            why = f"is damaged ({error}): copy it again"
        raise DatasetError(f"{file} {why}") from None
    except zlib.error as error:
        raise DatasetError(f"{file} is damaged ({error}): copy it again") from None


def array_of(file: Path, content: bytes, magic: int, dimensions: int) -> Bytes:
    """The array of an IDX file: a big-endian magic number, the sizes, then the bytes.

    By NumPy: the packages for IDX (idx2numpy, python-mnist) are of 2020.

    Args:
        file: where the content is from, for messages.
        content: decoded.
        magic: the number that it must begin with.
        dimensions: how many sizes follow.

    Raises:
        DatasetError: it is another kind of file, truncated, too long, or holds nothing.
    """
    import numpy as np

    start = 4 * (1 + dimensions)
    if len(content) < start:
        raise DatasetError(f"{file} is truncated inside its IDX header: copy it again")
    found, *shape = struct.unpack(f">{1 + dimensions}I", content[:start])
    if found != magic:
        raise DatasetError(
            f"{file} has the magic number {found:#x}, not {magic:#x}: it is another kind of file"
        )
    expected = int(np.prod(shape, dtype=object))
    if len(content) - start != expected:
        raise DatasetError(
            f"{file} announces {expected} bytes ({' x '.join(map(str, shape))}) but holds "
            f"{len(content) - start}: copy it again"
        )
    if not shape[0]:
        raise DatasetError(f"{file} holds nothing: provide at least one image")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
