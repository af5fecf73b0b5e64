"""A store that adapters come from (`case`), and an agent that answers what a test wants (`scripted`)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from lora_operator.delivery.agent_client import AgentClient
from tests.delivery.scripted_agent import TOKEN, ScriptedAgent
from tests.fetch.conftest import case

__all__ = ["case", "client", "scripted"]


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedAgent]:
    async with ScriptedAgent() as agent:
        yield agent


@pytest.fixture
async def client() -> AsyncIterator[AgentClient]:
    async with aiohttp.ClientSession() as session:
        yield AgentClient(session, lambda: TOKEN)
