"""A store that serves one adapter, and a folder to fetch it into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.stores.proxy import FaultyStore
from lora_operator.artifacts import WEIGHTS_FILE
from tests.fetch.ordered import WEIGHTS_URL, Case, adapter_files


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    files = adapter_files(tmp_path / "source")
    (tmp_path / "into").mkdir()
    async with FaultyStore({WEIGHTS_URL: files[WEIGHTS_FILE]}) as store:
        yield Case(store, files, tmp_path / "into")
