"""An agent with an empty disk, and a store (`case`) that it fetches from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.running import Agent, an_agent
from tests.fetch.conftest import case

__all__ = ["agent", "case"]


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with an_agent(tmp_path) as running:
        yield running
