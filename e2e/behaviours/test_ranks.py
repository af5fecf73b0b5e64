"""A pod with a server for each data-parallel rank, on ports one after the other: it holds what all of them do."""

from __future__ import annotations

from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.engines import EngineProbe
from e2e.world.world import assigned, eventually

RANKS = ("--data-parallel-size", "2", "--data-parallel-size-local", "2", "--data-parallel-multi-port-external-lb")


def ranks_of(world: World, pod: str) -> list[EngineProbe]:
    address = world.pods.address_of(world.namespace, pod)
    return [EngineProbe(f"{address}:{port}") for port in (8000, 8001)]


def test_every_rank_gets_an_adapter_and_what_one_lacks_is_loaded_again(worlds: Worlds) -> None:
    world = worlds(1, *RANKS, in_process=False)
    ranks = ranks_of(world, "vllm-0")
    world.adapter("law")
    world.apply("law", "law")
    assert assigned(world.wait_ready("law")["status"]) == {"vllm-0": ["law"]}
    assert [list(rank.models()) for rank in ranks] == [["law"], ["law"]]

    ranks[1].unload("law")  # behind the operator's back
    eventually(lambda: [list(rank.models()) for rank in ranks] == [["law"], ["law"]], what=("both have it again",))
    assert assigned(world.wait_ready("law")["status"]) == {"vllm-0": ["law"]}

    world.kubectl("delete", "loraadapter", "law")
    world.wait_gone("law")
    assert [list(rank.models()) for rank in ranks] == [[], []]
