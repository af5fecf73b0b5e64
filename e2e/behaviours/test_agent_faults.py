"""Networks that break between agents and stores, and between the operator and agents: all arrives, as it was, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from e2e.behaviours.client import digest_of
from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.seen import listed, loads
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.faults import FaultProxy
from e2e.faults.proxy import Connection
from e2e.pods.manifests import AGENT_PORT
from e2e.world import World
from e2e.world.world import eventually
from lora_operator.fetch.pace import Bandwidth

SLOW = 16_000  # bytes per second: a fetch takes seconds, and is under way when it is broken
LATENCY_SECONDS = 0.2
# a fetch gives a connection up that has been silent for a minute, and only then begins anew
LONG_SECONDS = 200.0
BEHIND_PORT = 9191  # where the agent listens, when something else has its port

Which = Callable[[Connection], bool]


def slow(proxy: FaultProxy, which: Which) -> int:
    proxy.delay = LATENCY_SECONDS
    return 1


FAULTS: dict[str, Callable[[FaultProxy, Which], int]] = {
    "latency": slow,
    "reset": FaultProxy.reset,
    "silence": FaultProxy.silence,
    "truncation": lambda proxy, which: proxy.truncate(100, which),
    "half-open": FaultProxy.half_open,
}


@pytest.fixture(scope="module")
def shared_world(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One pod whose agent is reached by way of a proxy."""
    made = Worlds(plane, tmp_path_factory.mktemp("faults"), kubeconfig)
    world = made(0)
    world.start_pods(1, agent=("--port", str(BEHIND_PORT)), wait=False)
    yield world
    made.close()


@pytest.fixture(scope="module")
def to_agent(shared_world: World) -> Iterator[FaultProxy]:
    world = shared_world
    eventually(lambda: bool(world.pods.pods(world.namespace)), what=["the pod has an address"])
    address = world.pods.address_of(world.namespace, "vllm-0")
    with FaultProxy(address, BEHIND_PORT, listen=(address, AGENT_PORT)) as proxy:
        world.pods.wait_ready(world.namespace, 1)
        yield proxy


@pytest.fixture
def world(
    shared_world: World, to_agent: FaultProxy, store: WebUpload, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr("e2e.stores.proxy.server.BLOCK_BYTES", 1024)  # a little at a time
    store.server.bandwidth = Bandwidth(SLOW)
    yield shared_world
    to_agent.heal()
    store.server.bandwidth = Bandwidth(None)
    shared_world.clear()


def fetching(connection: Connection) -> bool:
    """Whether an agent reads weights there, and has some of them."""
    asks = b"User-Agent: lora-operator" in connection.sent and b"adapter_model.safetensors" in connection.sent
    return asks and connection.to_client_bytes > 1000


def check(world: World, *names: str) -> None:
    """Each is loaded, was loaded once, and answers with the weights of its source."""
    assert listed(world) == {"vllm-0": sorted(names)}
    done = loads(world)
    assert {name: done["vllm-0", name] for name in names} == dict.fromkeys(names, 1)
    for name in names:
        assert world.engine("vllm-0").complete(name).weights == digest_of(world.source / name)
        (weights,) = (world.disk / name).glob("*/adapter_model.safetensors")
        assert weights.read_bytes() == (world.source / name / "adapter_model.safetensors").read_bytes()


def test_what_a_broken_connection_to_a_store_leaves_is_completed_and_loaded_once(
    world: World, store: WebUpload
) -> None:
    names = {fault: f"from-{fault}" for fault in FAULTS}
    with ExitStack() as stack:
        proxies = {fault: stack.enter_context(FaultProxy("127.0.0.1", store.server.port)) for fault in FAULTS}
        for number, (fault, name) in enumerate(names.items()):
            source = offer(world, store, name, seed=number, rank=16)
            apply(world, name, source | {"repository": f"http://127.0.0.1:{proxies[fault].port}/{name}/"})
        for fault, spoil in FAULTS.items():
            broken = partial(spoil, proxies[fault], fetching)
            eventually(lambda broken=broken: broken() > 0, what=[f"{fault} in the middle of a fetch"])  # type: ignore[misc]
        store.server.bandwidth = Bandwidth(None)
        for name in names.values():
            world.wait_ready(name, timeout=LONG_SECONDS)
        check(world, *names.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_an_order_whose_connection_to_the_agent_breaks_is_carried_out_and_loaded_once(
    world: World, store: WebUpload, to_agent: FaultProxy, fault: str
) -> None:
    name = f"by-{fault}"
    apply(world, name, offer(world, store, name, seed=len(name), rank=16))

    def ordered(connection: Connection) -> bool:
        return f"PUT /v1/adapters/{name}/".encode() in connection.sent

    eventually(lambda: FAULTS[fault](to_agent, ordered) > 0, what=[f"{fault} while an order is carried out"])
    store.server.bandwidth = Bandwidth(None)
    world.wait_ready(name, timeout=LONG_SECONDS)
    check(world, name)
