"""Fashion-MNIST: the embedded images, read, verified and split."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fmnist_models import DATA_VARIABLE
from fmnist_models.idx import (
    MAGIC_OF_IMAGES,
    MAGIC_OF_LABELS,
    DatasetError,
    array_of,
    decoded,
    refuse_special,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

CLASS_NAMES: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"
# SHA-256 of the decoded bytes of the embedded files.
EMBEDDED: dict[str, str] = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
# That of each file as it lies in the repository, so that they are known without being decoded.
_COMPRESSED: dict[str, str] = {
    TRAIN_IMAGES: "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    TRAIN_LABELS: "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    TEST_IMAGES: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    TEST_LABELS: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
# 1/255 in two parts: one of 12 bits, whose product with a byte is exact in float32, and the rest.
# byte * high + byte * low gives the float32 nearest to byte / 255.0 for each of the 256 bytes.
_HIGH = round(2**19 / 255) / 2**19
PIXEL_SCALE: tuple[float, float] = (_HIGH, 1 / 255 - _HIGH)
VALIDATION_SHARE = 0.2
_SIDE = 28


@dataclass(frozen=True, slots=True, eq=False)
class FashionMnist:
    """The images as they are published.

    Attributes:
        train_images: uint8, shape (n, 28, 28).
        train_labels: uint8, shape (n,), 0 to 9.
        test_images, test_labels: in the same form.
        digest: SHA-256 over the four decoded files, hexadecimal.
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """The images in the form for networks: float32 pixels from 0 to 1, int32 labels.

    Attributes:
        train_x, val_x: 80% and 20% of the training images, shape (n, 28, 28) or (n, 784).
        train_y, val_y, test_y: labels 0 to 9, shape (n,).
        test_x: the test images, for a separate accuracy.
        train_pixels: `train_x` before the division by 255.0, uint8, in the same shape.
        digest: that of the images as published; empty where it is not known.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int32]
    val_x: NDArray[np.float32]
    val_y: NDArray[np.int32]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int32]
    train_pixels: Bytes
    digest: str = ""

    def flat(self) -> TrainingData:
        """The same images as rows of 784 pixels, without a copy."""
        return TrainingData(
            self.train_x.reshape(len(self.train_x), -1),
            self.train_y,
            self.val_x.reshape(len(self.val_x), -1),
            self.val_y,
            self.test_x.reshape(len(self.test_x), -1),
            self.test_y,
            self.train_pixels.reshape(len(self.train_pixels), -1),
            self.digest,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """The facts of the data that the course documents print."""

    shapes: dict[str, tuple[int, ...]]
    train_counts: dict[str, int]
    test_counts: dict[str, int]
    digest: str

    def lines(self) -> Iterator[str]:
        """The summary as text."""
        for name, shape in self.shapes.items():
            yield f"{name}: {shape} uint8"
        yield "images of each class, training and test:"
        for name, count in self.train_counts.items():
            yield f"  {name:<12}{count:>7,}{self.test_counts[name]:>7,}"
        yield f"SHA-256: {self.digest}"


def embedded_folder() -> Path:
    """The folder of the images in the repository."""
    return Path(__file__).resolve().parent / "data"


def data_folder(option: str | None) -> Path:
    """The folder to read: the option, else the variable FMNIST_DATA, else the embedded."""
    chosen = option or os.environ.get(DATA_VARIABLE)
    return Path(chosen) if chosen else embedded_folder()


def load(folder: Path | None = None) -> FashionMnist:
    """Read and verify the four files.

    The embedded files must have the published SHA-256. Files of another folder must have the same
    format; their digest is computed.

    Raises:
        DatasetError: a file is missing, truncated, not gzip or not IDX, its counts
            disagree, or a label is out of range.
    """
    folder = folder or embedded_folder()
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder: name one that holds the four IDX files")
    contents = {name: decoded(folder / name) for name in EMBEDDED}
    # Not Path.resolve, which raises where a link leads to itself.
    if Path(os.path.realpath(folder)) == embedded_folder():
        for name, expected in EMBEDDED.items():
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise DatasetError(
                    f"{folder / name} is not the published file (SHA-256 differs): check it "
                    "out again"
                )
    digest = hashlib.sha256()
    for content in contents.values():
        digest.update(content)
    train = _pair(folder, TRAIN_IMAGES, TRAIN_LABELS, contents)
    test = _pair(folder, TEST_IMAGES, TEST_LABELS, contents)
    return FashionMnist(*train, *test, digest.hexdigest())


def refuse_wrong(folder: Path) -> None:
    """Refuse the files that `load` refuses; the repository's own are not decoded for it.

    Raises:
        DatasetError: as of `load`.
    """
    if not all(_is_embedded(folder / name, digest) for name, digest in _COMPRESSED.items()):
        load(folder)


def _is_embedded(file: Path, digest: str) -> bool:
    try:
        refuse_special(file)
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest
    except (OSError, DatasetError):
        return False


def split(data: FashionMnist) -> TrainingData:
    """Divide pixels by 255.0 and split the training images 80/20, always in the same way.

    Raises:
        DatasetError: there are fewer than two training images.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    count = len(data.train_images)
    if count < 2:
        raise DatasetError(f"{count} training images cannot be split: provide at least 2")
    train_pixels, val_pixels, train_y, val_y = train_test_split(
        data.train_images,
        data.train_labels.astype(np.int32),
        test_size=VALIDATION_SHARE,
        random_state=42,
    )
    return TrainingData(
        scaled(train_pixels),
        train_y,
        scaled(val_pixels),
        val_y,
        scaled(data.test_images),
        data.test_labels.astype(np.int32),
        train_pixels,
        data.digest,
    )


def summary(data: FashionMnist) -> Summary:
    """Shapes, class counts and digest."""
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return Summary(
        {name: getattr(data, name).shape for name in arrays},
        _counts(data.train_labels),
        _counts(data.test_labels),
        data.digest,
    )


def write(
    folder: Path,
    train_images: Bytes,
    train_labels: Bytes,
    test_images: Bytes,
    test_labels: Bytes,
) -> None:
    """Write the four files to `folder`, which is created; `load` reads the same arrays again.

    Images have the shape (n, 28, 28), labels (n,). Raises OSError where a file cannot be written.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    arrays = (train_images, train_labels, test_images, test_labels)
    for name, array in zip(EMBEDDED, arrays, strict=True):
        magic = MAGIC_OF_IMAGES if array.ndim == 3 else MAGIC_OF_LABELS
        header = struct.pack(f">I{array.ndim}I", magic, *array.shape)
        # Without a time stamp, equal arrays give equal files.
        content = gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)
        (folder / name).write_bytes(content)


def training_samples(folder: Path | None) -> int:
    """Number of training samples of the images in `folder`, from the header of their file.

    Raises:
        DatasetError: the header cannot be read.
    """
    file = (folder or embedded_folder()) / TRAIN_IMAGES
    refuse_special(file)
    try:
        with gzip.open(file) as content:
            magic, count = struct.unpack(">2I", content.read(8))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
    if magic != MAGIC_OF_IMAGES:
        raise DatasetError(f"{file} holds no images")
    # train_test_split rounds in the same way.
    return int(count) - math.ceil(VALIDATION_SHARE * int(count))


def _pair(
    folder: Path, images_name: str, labels_name: str, contents: dict[str, bytes]
) -> tuple[Bytes, Bytes]:
    images_file, labels_file = folder / images_name, folder / labels_name
    images = array_of(images_file, contents[images_name], MAGIC_OF_IMAGES, 3)
    labels = array_of(labels_file, contents[labels_name], MAGIC_OF_LABELS, 1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise DatasetError(
            f"{images_file} holds images of {images.shape[1:]}: they must be (28, 28)"
        )
    if len(images) != len(labels):
        raise DatasetError(
            f"{images_file} holds {len(images)} images but {labels_file.name} holds "
            f"{len(labels)} labels: the counts must agree"
        )
    if labels.max() >= len(CLASS_NAMES):
        raise DatasetError(f"{labels_file} holds the label {labels.max()}: they go from 0 to 9")
    return images, labels


def scaled(images: Bytes) -> NDArray[np.float32]:
    """The pixels divided by 255.0, as float32 of the same shape."""
    import numpy as np

    return (images / 255.0).astype(np.float32)


def _counts(labels: Bytes) -> dict[str, int]:
    import numpy as np

    counts = np.bincount(labels, minlength=len(CLASS_NAMES))
    return {name: int(count) for name, count in zip(CLASS_NAMES, counts, strict=True)}
