"""The images are the published ones, split as documented, and every fault is one line."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fmnist_models import DATA_VARIABLE, dataset
from fmnist_models.dataset import (
    EMBEDDED,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    DatasetError,
)


@pytest.fixture(scope="module")
def published() -> dataset.FashionMnist:
    return dataset.load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder of 12 training and 5 test images, to be spoilt."""
    images = np.arange(12 * 784, dtype=np.uint32).astype(np.uint8).reshape(12, 28, 28)
    labels = np.arange(12, dtype=np.uint8) % 10
    dataset.write(tmp_path, images, labels, images[:5], labels[:5])
    return tmp_path


def test_the_published_images_are_embedded(published: dataset.FashionMnist) -> None:
    assert published.train_images.shape == (60_000, 28, 28)
    assert published.test_images.shape == (10_000, 28, 28)
    assert published.train_images.dtype == np.uint8
    assert np.bincount(published.train_labels).tolist() == [6_000] * 10
    assert np.bincount(published.test_labels).tolist() == [1_000] * 10
    content = gzip.decompress((dataset.embedded_folder() / TRAIN_IMAGES).read_bytes())
    assert hashlib.sha256(content).hexdigest() == (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    )


def test_the_split_is_the_documented_one(published: dataset.FashionMnist) -> None:
    from sklearn.model_selection import train_test_split

    data = dataset.split(published)
    expected = train_test_split(
        published.train_images / 255.0, published.train_labels, test_size=0.2, random_state=42
    )
    assert data.train_x.shape == (48_000, 28, 28)
    assert data.val_x.shape == (12_000, 28, 28)
    assert data.test_x.shape == (10_000, 28, 28)
    assert data.train_x.dtype == np.float32
    assert data.train_y.dtype == np.int32
    np.testing.assert_array_equal(data.train_x, expected[0].astype(np.float32))
    np.testing.assert_array_equal(data.val_y, expected[3])
    flat = data.flat()
    assert flat.train_x.shape == (48_000, 784)
    assert np.shares_memory(flat.train_x, data.train_x)


def test_the_summary_is_what_the_documents_print(published: dataset.FashionMnist) -> None:
    lines = list(dataset.summary(published).lines())
    assert "train_images: (60000, 28, 28) uint8" in lines
    assert "  T-shirt/top   6,000  1,000" in lines


def test_another_folder_gets_a_digest_of_its_own(
    folder: Path, published: dataset.FashionMnist
) -> None:
    small = dataset.load(folder)
    assert len(small.train_images) == 12
    assert len(small.digest) == 64
    assert small.digest != published.digest
    assert dataset.load(folder).digest == small.digest


def test_option_before_variable_before_embedded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    assert dataset.data_folder(None) == dataset.embedded_folder()
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert dataset.data_folder(None) == tmp_path
    assert dataset.data_folder("other").name == "other"


def test_a_changed_embedded_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "embedded_folder", folder.resolve)
    for refuses in (dataset.load, dataset.refuse_wrong):
        with pytest.raises(DatasetError, match="SHA-256 differs"):
            refuses(folder)


def test_the_embedded_files_are_known_without_being_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: bytes) -> bytes:
        """Decoding takes longer than all else that `list` does."""
        raise AssertionError("decoded")

    monkeypatch.setattr(gzip, "decompress", never)
    dataset.refuse_wrong(dataset.embedded_folder())
    with pytest.raises(AssertionError, match="decoded"):
        dataset.refuse_wrong(folder)


def images_header(count: int, rows: int = 28, columns: int = 28) -> bytes:
    return struct.pack(">4I", 0x803, count, rows, columns)


def packed(content: bytes) -> bytes:
    # Without a time in it, the same content is the same file.
    return gzip.compress(content, mtime=0)


def flipped(place: int) -> bytes:
    """A whole file but for one bit, of its check sum or of its length."""
    content = bytearray(packed(b"x" * 5_000))
    content[place] ^= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        (TRAIN_IMAGES, b"", "is empty"),
        (TRAIN_IMAGES, b"PK\x03\x04 something else", "is not a gzip file"),
        (TRAIN_IMAGES, flipped(-6), "is damaged (CRC error"),
        (TRAIN_IMAGES, flipped(-2), "is damaged (its length"),
        (TRAIN_IMAGES, packed(b"1234") + b"more", "is damaged"),
        (TRAIN_IMAGES, packed(b"x" * 5_000)[:-9], "is truncated"),
        (TRAIN_IMAGES, packed(b"x" * 5_000)[:12] + b"\xff" * 20, "copy it again"),
        (TRAIN_IMAGES, packed(b"\0\0\x08"), "truncated inside its IDX header"),
        (TRAIN_IMAGES, packed(struct.pack(">4I", 0x801, 1, 28, 28)), "magic number 0x801"),
        (TRAIN_IMAGES, packed(images_header(12) + b"\0" * 783), "but holds 783"),
        (TRAIN_IMAGES, packed(images_header(1) + b"\0" * 785), "but holds 785"),
        (TRAIN_IMAGES, packed(images_header(2**32 - 1) + b"\0"), "announces 3367254359280 bytes"),
        (TRAIN_IMAGES, packed(images_header(12, 14, 56) + b"\0" * 12 * 784), "must be (28, 28)"),
        (TRAIN_IMAGES, packed(images_header(11) + b"\0" * 11 * 784), "11 images but"),
        (TRAIN_LABELS, packed(struct.pack(">2I", 0x801, 12) + b"\x0a" * 12), "the label 10"),
        (TEST_LABELS, packed(struct.pack(">2I", 0x801, 0)), "holds nothing"),
    ],
)
def test_a_spoilt_file_is_one_line_that_names_it(
    folder: Path, name: str, content: bytes, line: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DatasetError) as error:
        dataset.load(folder)
    with pytest.raises(DatasetError) as before:
        dataset.refuse_wrong(folder)
    message = str(error.value)
    assert str(before.value) == message
    assert line in message
    assert name in message
    assert "\n" not in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])
def test_a_pipe_or_a_device_is_not_waited_for(folder: Path, name: str) -> None:
    for kind in ("pipe", "device"):
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to("/dev/zero")
        with pytest.raises(DatasetError, match=rf"{name} is a pipe or a device"):
            dataset.load(folder)
    if name == TRAIN_IMAGES:
        with pytest.raises(DatasetError, match=rf"{name} is a pipe or a device"):
            dataset.training_samples(folder)


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name} is missing"):
        dataset.load(folder)


def test_a_folder_in_place_of_a_file_and_the_reverse(folder: Path) -> None:
    with pytest.raises(DatasetError, match="is not a folder"):
        dataset.load(folder / TRAIN_IMAGES)
    (folder / TRAIN_IMAGES).unlink()
    (folder / TRAIN_IMAGES).mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.load(folder)


def test_a_single_image_cannot_be_split(tmp_path: Path) -> None:
    one = np.zeros((1, 28, 28), np.uint8)
    dataset.write(tmp_path / "한 장", one, np.zeros(1, np.uint8), one, np.zeros(1, np.uint8))
    with pytest.raises(DatasetError, match="1 training images cannot be split"):
        dataset.split(dataset.load(tmp_path / "한 장"))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(28), st.just(28))),
    first=st.integers(0, 9),
)
def test_what_is_written_is_read_again(
    tmp_path: Path, images: NDArray[np.uint8], first: int
) -> None:
    labels = ((np.arange(len(images)) + first) % 10).astype(np.uint8)
    dataset.write(tmp_path, images, labels, images[:1], labels[:1])
    data = dataset.load(tmp_path)
    np.testing.assert_array_equal(data.train_images, images)
    np.testing.assert_array_equal(data.train_labels, labels)


def test_the_samples_of_an_epoch_are_known_without_reading_the_images(folder: Path) -> None:
    data = dataset.split(dataset.load(folder))
    assert dataset.training_samples(folder) == len(data.train_x)
    assert dataset.training_samples(None) == 48_000
    (folder / TRAIN_IMAGES).write_bytes(packed(b"12")[:-9])
    with pytest.raises(DatasetError, match=f"{TRAIN_IMAGES} cannot be read"):
        dataset.training_samples(folder)
