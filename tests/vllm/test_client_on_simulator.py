"""The engine client against the simulator playing each release: nothing in the client depends on which one it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.vllm_sim import Engine, serve
from e2e.vllm_sim.releases import release_traits
from lora_operator.vllm.client import Endpoint, EngineClient, LoadOutcome, UnloadOutcome
from lora_operator.vllm.errors import (
    EngineError,
    EngineTimeout,
    EngineUnauthorized,
    EngineUnreachable,
    LoadRefused,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
)
from lora_operator.vllm.quirks import BaseNameCollision, quirks_for

ADAPTERS = Path(__file__).parents[2] / "e2e" / "contract" / "adapters"
GOOD, OTHER, CORRUPT = (str(ADAPTERS / name) for name in ("lora", "lora-v2", "truncated"))
RELEASES = ["0.8.5", "0.10.2", "0.12.0", "0.16.0", "0.20.2", "0.25.1", "0.28.0", "0.30.0", "0.31.0", "0.32.0"]
FLAGS = ["--model", "tiny", "--enable-lora", "--max-loras", "2", "--port", "0", "--sim-startup-seconds", "0"]
FLAGS += ["--sim-load-seconds", "0", "--max-lora-rank", "16"]
UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}


def endpoint_of(simulator: Engine, api_key: str | None = None) -> Endpoint:
    return Endpoint("127.0.0.1", simulator.port, api_key)


@pytest.fixture(params=RELEASES)
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    simulator = await serve([*FLAGS, "--release", request.param], UPDATING)
    yield simulator
    await simulator.stop()


@pytest.fixture
async def current() -> AsyncIterator[Engine]:
    simulator = await serve([*FLAGS, "--release", "0.32.0"], UPDATING)
    yield simulator
    await simulator.stop()


async def test_loads_lists_and_unloads(client: EngineClient, simulator: Engine) -> None:
    endpoint = endpoint_of(simulator)
    assert await client.load(endpoint, "a", GOOD) is LoadOutcome.LOADED
    base, adapter = await client.models(endpoint)
    assert base.is_base and base.name == "tiny"
    assert (adapter.name, adapter.root, adapter.parent) == ("a", GOOD, "tiny")
    assert await client.unload(endpoint, "a") is UnloadOutcome.UNLOADED
    assert await client.unload(endpoint, "a") is UnloadOutcome.WAS_ABSENT
    assert [model.name for model in await client.models(endpoint)] == ["tiny"]


async def test_loading_again_is_done_and_another_path_is_not(client: EngineClient, simulator: Engine) -> None:
    endpoint = endpoint_of(simulator)
    await client.load(endpoint, "a", GOOD)
    assert await client.load(endpoint, "a", GOOD) is LoadOutcome.ALREADY_LOADED
    with pytest.raises(NameTakenByOther) as caught:
        await client.load(endpoint, "a", OTHER)
    assert caught.value.root == GOOD


async def test_refusals_have_the_status_that_the_table_says(client: EngineClient, simulator: Engine) -> None:
    endpoint, quirks = endpoint_of(simulator), quirks_for(simulator.settings.release.name)
    with pytest.raises(LoadRefused) as absent:
        await client.load(endpoint, "a", "/nowhere/at/all")
    assert (absent.value.status, absent.value.type) == (404, "NotFoundError")
    with pytest.raises(LoadRefused) as corrupt:
        await client.load(endpoint, "a", CORRUPT)
    assert corrupt.value.status == quirks.load_failure_status and corrupt.value.retryable
    with pytest.raises(LoadRefused) as nameless:
        await client.load(endpoint, "", GOOD)
    assert nameless.value.status == 400 and not nameless.value.retryable
    assert await client.health(endpoint)


async def test_the_base_models_name_collides_as_the_table_says(client: EngineClient, simulator: Engine) -> None:
    endpoint, quirks = endpoint_of(simulator), quirks_for(simulator.settings.release.name)
    if quirks.base_name_collision is BaseNameCollision.REFUSED:
        with pytest.raises(NameTakenByOther, match="base model"):
            await client.load(endpoint, "tiny", GOOD)
    else:
        assert await client.load(endpoint, "tiny", GOOD) is LoadOutcome.LOADED


async def test_says_its_release_and_its_load(client: EngineClient, simulator: Engine) -> None:
    endpoint = endpoint_of(simulator)
    assert await client.version(endpoint) == simulator.settings.release.name
    metrics = await client.metrics(endpoint)
    assert (metrics.requests_running, metrics.requests_waiting, metrics.kv_cache_usage) == (0, 0, 0.0)


@pytest.mark.parametrize("release", RELEASES)
async def test_a_key_is_asked_for_and_enough(client: EngineClient, release: str) -> None:
    simulator = await serve([*FLAGS, "--release", release, "--api-key", "k"], UPDATING)
    try:
        for key in (None, "wrong"):
            with pytest.raises(EngineUnauthorized):
                await client.load(endpoint_of(simulator, key), "a", GOOD)
        assert await client.load(endpoint_of(simulator, "k"), "a", GOOD) is LoadOutcome.LOADED
    finally:
        await simulator.stop()


@pytest.mark.parametrize("release", RELEASES)
async def test_runtime_updating_off_has_its_own_error(client: EngineClient, release: str) -> None:
    simulator = await serve([*FLAGS, "--release", release], {})
    try:
        with pytest.raises(RuntimeUpdatingDisabled):
            await client.load(endpoint_of(simulator), "a", GOOD)
        with pytest.raises(RuntimeUpdatingDisabled):
            await client.unload(endpoint_of(simulator), "a")
    finally:
        await simulator.stop()


async def test_lora_disabled_is_a_refusal(client: EngineClient) -> None:
    simulator = await serve([flag for flag in FLAGS if flag != "--enable-lora"], UPDATING)
    try:
        with pytest.raises(EngineError):
            await client.load(endpoint_of(simulator), "a", GOOD)
    finally:
        await simulator.stop()


async def test_a_load_answered_too_late_is_found(hasty: EngineClient, current: Engine) -> None:
    current.faults.add("late", "load", times=1)
    assert await hasty.load(endpoint_of(current), "a", GOOD) is LoadOutcome.CONFIRMED


async def test_a_load_whose_answer_was_lost_is_found(client: EngineClient, current: Engine) -> None:
    current.faults.add("drop", "load", times=1, after=True)
    assert await client.load(endpoint_of(current), "a", GOOD) is LoadOutcome.CONFIRMED


async def test_a_load_that_never_arrived_is_sent_again(client: EngineClient, current: Engine) -> None:
    current.faults.add("drop", "load", times=1)
    assert await client.load(endpoint_of(current), "a", GOOD) is LoadOutcome.LOADED
    assert current.adapters == ["a"]


async def test_an_engine_that_hangs_is_a_timeout(hasty: EngineClient, current: Engine) -> None:
    current.faults.add("hang", "load")
    with pytest.raises(EngineTimeout):
        await hasty.load(endpoint_of(current), "a", GOOD)


async def test_an_engine_that_crashes_at_a_load_is_unreachable(client: EngineClient, current: Engine) -> None:
    current.faults.add("crash", "load")
    with pytest.raises(EngineUnreachable):
        await client.load(endpoint_of(current), "a", GOOD)
    await current.exited.wait()
    with pytest.raises(EngineUnreachable) as caught:
        await client.models(endpoint_of(current))
    assert caught.value.refused


async def test_an_unload_that_the_engine_forgot_is_seen_in_its_list(client: EngineClient, current: Engine) -> None:
    await client.load(endpoint_of(current), "a", GOOD)
    current.faults.add("forget_unload")
    assert await client.unload(endpoint_of(current), "a") is UnloadOutcome.UNLOADED
    assert [model.name for model in await client.models(endpoint_of(current))] == ["tiny", "a"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_simulator_and_the_table_agree_on_every_release(release: str) -> None:
    played, quirks = release_traits(release), quirks_for(release)
    assert played.cache_key.replace(" ", "") == quirks.prefix_cache_key.lower()
    assert played.load_failure_status == quirks.load_failure_status
    assert played.locks_names == quirks.loads_locked_per_name
    assert played.has_sagemaker_adapters == quirks.open_adapters_route
    assert played.guarded_prefixes == quirks.key_guards
    assert {f"vllm:{gauge}" for gauge in played.kv_gauges} == set(quirks.kv_gauges)
    assert played.counts_waiting_by_reason == quirks.has_waiting_by_reason
    assert played.honours_patterns == quirks.honours_patterns
    assert played.refuses_base_name == (quirks.base_name_collision is BaseNameCollision.REFUSED)
    assert played.base_name_shadows == (quirks.base_name_collision is not BaseNameCollision.UNREACHABLE)


async def test_an_engine_without_lora_is_told_apart_by_what_to_do(client: EngineClient) -> None:
    simulator = await serve([flag for flag in FLAGS if flag != "--enable-lora"], UPDATING)
    with pytest.raises(LoadRefused, match="has to be started with --enable-lora"):
        await client.load(endpoint_of(simulator), "a", GOOD)
    await simulator.stop()
