"""One browser for all tests of pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.browser import Reader


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    from support.browser import chromium

    with chromium(tmp_path_factory.mktemp("profile")) as reader:
        yield reader
