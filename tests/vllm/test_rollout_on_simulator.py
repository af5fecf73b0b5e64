"""A new version of an adapter, on the simulator as each release: what the chosen name prevents."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from e2e.vllm_sim import Engine, serve
from lora_operator.vllm.client import Endpoint, EngineClient, new_session
from lora_operator.vllm.quirks import LoadName, PrefixCacheKey, load_name, quirks_for

ADAPTERS = Path(__file__).parents[2] / "e2e" / "contract" / "adapters"
VERSIONS = {"1" * 16: str(ADAPTERS / "lora"), "2" * 16: str(ADAPTERS / "lora-v2"), "3" * 16: str(ADAPTERS / "lora-v3")}
RELEASES = ["0.8.5", "0.10.2", "0.12.0", "0.16.0", "0.20.2", "0.25.1", "0.28.0", "0.30.0", "0.31.0", "0.32.0"]
FLAGS = ["--model", "tiny", "--enable-lora", "--max-loras", "2", "--max-cpu-loras", "8", "--port", "0"]
FLAGS += ["--sim-startup-seconds", "0", "--sim-load-seconds", "0"]
PROMPT = "A prompt that is long enough to fill more than one block of the prefix cache."


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with new_session() as session:
        yield session


@pytest.fixture(params=RELEASES)
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    simulator = await serve([*FLAGS, "--release", request.param], {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})
    yield simulator
    await simulator.stop()


async def answer_of(session: aiohttp.ClientSession, simulator: Engine, model: str) -> tuple[str, bool]:
    """Digest of the weights that answered, and whether the prefix came from other weights."""
    request = {"model": model, "prompt": PROMPT, "max_tokens": 1}
    async with session.post(f"{simulator.url}/v1/completions", json=request) as response:
        text = (await response.json())["choices"][0]["text"]
    match = re.search(r"weights=(\w+) cached=(\w+)", text)
    assert match is not None, text
    return match[1], match[2] not in ("none", match[1])


async def test_the_chosen_name_never_answers_from_another_versions_prefix(
    session: aiohttp.ClientSession, simulator: Engine
) -> None:
    client, endpoint = EngineClient(session), Endpoint("127.0.0.1", simulator.port)
    served: dict[str, str] = {}
    weights: dict[str, str] = {}
    for version in [*VERSIONS, *VERSIONS]:  # forth, and back to versions that were there before
        choice = load_name(
            name="m",
            fingerprint=version,
            quirks=quirks_for(await client.version(endpoint)),
            prefix_caching=True,
            served=served,
            versioned_names=True,
        )
        assert isinstance(choice, LoadName)
        served[choice.engine_name] = version
        await client.load(endpoint, choice.engine_name, VERSIONS[version])
        for _ in range(2):
            answered, stale = await answer_of(session, simulator, choice.engine_name)
            assert not stale
            assert weights.setdefault(version, answered) == answered
        await client.unload(endpoint, choice.engine_name)
    assert len(set(weights.values())) == len(VERSIONS)


async def test_the_plain_name_would_answer_wrongly_just_where_the_table_says(
    session: aiohttp.ClientSession, simulator: Engine
) -> None:
    client, endpoint = EngineClient(session), Endpoint("127.0.0.1", simulator.port)
    stale = False
    for path in VERSIONS.values():
        await client.load(endpoint, "m", path)
        stale = (await answer_of(session, simulator, "m"))[1]
        await client.unload(endpoint, "m")
    assert stale == (quirks_for(simulator.settings.release.name).prefix_cache_key is PrefixCacheKey.NAME)
