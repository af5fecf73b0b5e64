"""A volume and an adapter to publish on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import an_adapter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


@pytest.fixture
def adapter(tmp_path: Path) -> FoundAdapter:
    return an_adapter(tmp_path / "source")
