"""A patient and a hasty client, and an engine that answers as told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from lora_operator.vllm.client import EngineClient, Timeouts, new_session
from tests.vllm.replayed_engine import ReplayedEngine, replayed_engine


@pytest.fixture
async def client() -> AsyncIterator[EngineClient]:
    async with new_session() as session:
        yield EngineClient(session, timeouts=Timeouts(connect=30, probe=30, metrics=30, load=60, unload=60))


@pytest.fixture
async def hasty() -> AsyncIterator[EngineClient]:
    """Gives up a load or unload quickly: for engines that are told to hang."""
    async with new_session() as session:
        yield EngineClient(session, timeouts=Timeouts(connect=30, probe=30, metrics=30, load=0.1, unload=0.1))


@pytest.fixture
async def engine() -> AsyncIterator[ReplayedEngine]:
    async with replayed_engine() as engine:
        yield engine
