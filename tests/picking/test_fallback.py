"""Where an adapter is not loaded its base model answers, if its LoraAdapter says so, and never otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from tests.picking.gateway import picking
from tests.router.fleet import Fleet
from tests.router.recording import an_asking

FAILED = {"huge": {"reason": "RankTooHigh", "message": "rank 512 is above 64"}}


def a_fleet(fallback: str, **more: Any) -> Fleet:
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1", says={"base-model": "llama"})
    fleet.adapter("one", fallback=fallback, **more)
    fleet.refresh()
    return fleet


async def test_an_adapter_that_cannot_be_loaded_is_refused_unless_its_base_model_may_answer() -> None:
    for fallback in ("", "None"):
        async with picking(a_fleet(fallback, failed=FAILED)) as it:
            told = await it.gateway.ask({"model": "huge"})
            assert (told.status, "retry-after" in told.headers) == (503, True)
    fleet = a_fleet("BaseModel", failed=FAILED, owner="alice")
    async with picking(fleet) as it:
        told = await it.gateway.ask({"model": "huge", "prompt": "x"})
        assert (told.status, told.endpoint, told.model) == (0, "10.0.0.1:8000", "llama")
        assert told.metadata["lora-operator"] == {"model": "llama", "fallback": "RankTooHigh"}
        assert (await it.gateway.ask({"model": "hug"})).status == 404, "no name stands for a base model"
        assert await it.counted() == {"fallback": 1, "unknown": 1}
        fleet.drop_pod("vllm-0")
        fleet.refresh()
        assert (await it.gateway.ask({"model": "huge"})).status == 503, "nor does the base model answer"
    async with picking(fleet, owner_claim="sub") as it:
        assert (await it.gateway.ask({"model": "huge"}, token={"sub": "bob"})).status == 404


@pytest.mark.parametrize("fallback", ["None", "BaseModel"])
async def test_who_waited_in_vain_for_an_adapter_on_demand_is_answered_by_its_base_model(fallback: str) -> None:
    async with an_asking() as (_, asking, _):
        fleet = a_fleet(fallback, names=("poet",), on_demand=True)
        async with picking(fleet, asking=asking, wait_seconds=0.1) as it:
            told = await it.gateway.ask({"model": "poet"})
            await it.served.until_metric('lora_operator_picker_seconds_count{start="cold"} 1.0')
            if fallback == "None":
                assert (told.status, told.error["type"]) == (503, "LoadOnDemand")
            else:
                assert (told.status, told.model) == (0, "llama")
                assert told.metadata["lora-operator"]["fallback"] == "LoadOnDemand"
