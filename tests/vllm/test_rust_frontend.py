"""The engine client against vLLM's Rust frontend, which has a contract of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from e2e.contract.case import Server
from e2e.contract.flavours import environment_of
from e2e.contract.frontend import Frontend
from e2e.contract.target import ADAPTERS
from e2e.vllm_sim import serve
from lora_operator.engines.ownership import our_model
from lora_operator.vllm.client import Endpoint, EngineClient, LoadOutcome, UnloadOutcome
from lora_operator.vllm.errors import (
    EngineFailing,
    LoadRefused,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
    UnloadRefused,
)
from tests.vllm.replayed_engine import LOAD, MODELS, UNLOAD, ReplayedEngine, Reply, listing, loaded, nested, unloaded

PATH = "/adapters/r8/0123456789abcdef"


def rust_listing(**adapters: str) -> Reply:
    """As `vllm-rs` lists models."""
    return Reply(200, listing(**adapters).body.replace(b'"owned_by": "vllm"', b'"owned_by": "vllm-frontend-rs"'))


HEALTH = ("GET", "/health")
NOT_REMOVED = nested(500, "InternalServerError", "engine rejected removal of LoRA adapter `r8` with id 1")


async def test_the_rust_frontend_forgets_an_evicted_adapter_once_the_engine_has_read_it_again(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(HEALTH, Reply(200))
    engine.says(MODELS, rust_listing(r8=PATH))
    engine.says(UNLOAD, NOT_REMOVED, unloaded("r8"))
    engine.says(LOAD, loaded("r8"))
    assert await client.unload(engine.endpoint, "r8") is UnloadOutcome.UNLOADED
    assert {"lora_name": "r8", "lora_path": PATH, "load_inplace": True} in engine.bodies
    engine.says(UNLOAD, NOT_REMOVED)
    engine.says(LOAD, nested(400, "InvalidUserInput", "Local LoRA adapter path must exist and be accessible."))
    with pytest.raises(UnloadRefused, match="rejected removal"):
        await client.unload(engine.endpoint, "r8")


async def test_no_other_engine_is_asked_to_load_in_place(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, listing(r8=PATH))
    engine.says(UNLOAD, NOT_REMOVED)
    with pytest.raises(UnloadRefused):
        await client.unload(engine.endpoint, "r8")
    assert engine.count(LOAD) == 0


async def test_a_rust_frontend_whose_engine_has_died_is_not_believed(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(MODELS, rust_listing(r8=PATH))
    engine.says(HEALTH, Reply(200), Reply(503))
    assert [model.name for model in await client.models(engine.endpoint)] == ["tiny", "r8"]
    with pytest.raises(EngineFailing, match="its engine is not well"):
        await client.models(engine.endpoint)


async def test_a_rust_frontend_says_without_a_word_that_it_has_no_routes_to_load(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(HEALTH, Reply(200))
    engine.says(MODELS, rust_listing())
    for route, act in (
        (LOAD, client.load(engine.endpoint, "r8", PATH)),
        (UNLOAD, client.unload(engine.endpoint, "r8")),
    ):
        engine.says(route, Reply(404))
        with pytest.raises(RuntimeUpdatingDisabled):
            await act
    engine.says(MODELS, listing())  # a proxy in passing: of vLLM's own server this says nothing for good
    with pytest.raises(LoadRefused):
        await client.load(engine.endpoint, "r8", PATH)


async def test_a_path_whose_links_the_rust_frontend_has_resolved_is_the_same_path(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(HEALTH, Reply(200))
    engine.says(MODELS, rust_listing(r8=PATH.replace("/adapters", "/data/volume")))
    engine.says(LOAD, nested(400, "InvalidUserInput", "already loaded"))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.ALREADY_LOADED
    with pytest.raises(NameTakenByOther):
        await client.load(engine.endpoint, "r8", PATH.replace("0", "1"))
    (_, model) = await client.models(engine.endpoint)
    ours = our_model(model, "/adapters")
    assert ours is not None and (ours.name, ours.fingerprint) == ("r8", "0123456789abcdef")


async def test_the_simulators_rust_frontend_is_unloaded_from_whatever_it_has_evicted(
    client: EngineClient, tmp_path: Path
) -> None:
    environment = {**environment_of(Server.USUAL, Frontend.RUST)}
    flags = ["--model", "tiny", "--enable-lora", "--max-loras", "1", "--port", "0", "--release", "0.33.0"]
    simulator = await serve(flags, environment)
    endpoint = Endpoint("127.0.0.1", simulator.port)
    try:
        for name in ("r8", "other"):  # the second takes the only place
            shutil.copytree(ADAPTERS / "lora", tmp_path / name / "0123456789abcdef")
            await client.load(endpoint, name, str(tmp_path / name / "0123456789abcdef"))
        assert await client.unload(endpoint, "r8") is UnloadOutcome.UNLOADED
        assert simulator.adapters == ["other"]
        shutil.rmtree(tmp_path / "other")
        await client.load(endpoint, "lora", str(ADAPTERS / "lora"))
        with pytest.raises(UnloadRefused):  # without its files nothing but a restart frees the name, and nothing dies
            await client.unload(endpoint, "other")
        assert await client.health(endpoint)
    finally:
        await simulator.stop()
