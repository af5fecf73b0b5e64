"""A pod with a server for each data-parallel rank: the client tells all of them, and believes what all of them say."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from e2e.vllm_sim import Engine, serve
from lora_operator.engines.ownership import our_model
from lora_operator.vllm.client import Endpoint, LoadOutcome, Timeouts, UnloadOutcome, new_session
from lora_operator.vllm.errors import LoadRefused
from lora_operator.vllm.ranks import RanksClient
from tests.vllm.test_client_on_simulator import ADAPTERS, FLAGS, GOOD, UPDATING

RANK_16 = str(ADAPTERS / "lora-r16")


@pytest.fixture
async def ranks() -> AsyncIterator[tuple[Engine, Engine]]:
    """The second takes smaller adapters only."""
    first, second = [await serve([*FLAGS, *more], UPDATING) for more in ((), ("--max-lora-rank", "8"))]
    yield first, second
    await first.stop()
    await second.stop()


@pytest.fixture
async def client() -> AsyncIterator[RanksClient]:
    async with new_session() as session:
        yield RanksClient(session, timeouts=Timeouts(connect=30, probe=30, metrics=30, load=60, unload=60))


def pod(ranks: tuple[Engine, Engine]) -> Endpoint:
    return Endpoint("127.0.0.1", ranks[0].port, further_ports=(ranks[1].port,))


async def test_every_rank_loads_and_unloads(client: RanksClient, ranks: tuple[Engine, Engine]) -> None:
    assert await client.load(pod(ranks), "a", GOOD) is LoadOutcome.LOADED
    assert [[*engine.adapters] for engine in ranks] == [["a"], ["a"]]
    base, adapter = await client.models(pod(ranks))
    assert base.is_base and adapter.is_from(GOOD) and not adapter.partial
    assert await client.unload(pod(ranks), "a") is UnloadOutcome.UNLOADED
    assert [[*engine.adapters] for engine in ranks] == [[], []]


async def test_what_one_rank_refuses_stays_on_none(client: RanksClient, ranks: tuple[Engine, Engine]) -> None:
    with pytest.raises(LoadRefused, match=f":{ranks[1].port}"):
        await client.load(pod(ranks), "a", RANK_16)
    assert [[*engine.adapters] for engine in ranks] == [[], []]


async def test_what_some_ranks_have_takes_room_and_is_not_held(
    client: RanksClient, ranks: tuple[Engine, Engine]
) -> None:
    one = Endpoint("127.0.0.1", ranks[1].port)
    await client.load(one, "a", GOOD)
    _, partial = await client.models(pod(ranks))
    assert partial.partial and not partial.is_from(GOOD)
    root = "/" + "/".join(GOOD.strip("/").split("/")[:-2])
    ours = our_model(partial, root)
    assert ours is None or ours.partial
    assert await client.load(pod(ranks), "a", GOOD) is LoadOutcome.LOADED, "loading again completes it"
    assert not (await client.models(pod(ranks)))[1].partial


async def test_the_load_of_all_ranks_counts(client: RanksClient, ranks: tuple[Engine, Engine]) -> None:
    metrics = await client.metrics(pod(ranks))
    assert (metrics.requests_running, metrics.requests_waiting) == (0, 0)
