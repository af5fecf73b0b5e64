"""What a network does to the connections of operator and router leaves nothing that they say wrong for long."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from e2e.behaviours.routers import a_router, ready
from e2e.behaviours.seen import listed, loads, log_of, most_at_once
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.faults import FaultProxy
from e2e.world.world import eventually

LATENCY_SECONDS = 0.2


def slow(proxy: FaultProxy) -> None:
    proxy.delay = LATENCY_SECONDS


def cut(proxy: FaultProxy) -> None:
    proxy.truncate(40)


FAULTS: dict[str, Callable[[FaultProxy], object]] = {
    "latency": slow,
    "reset": FaultProxy.reset,
    "silence": FaultProxy.silence,
    "truncation": cut,
    "half-open": FaultProxy.half_open,
}
every_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    """Between what uses `through` and the API server."""
    server = urllib.parse.urlsplit(yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    if server.hostname != "127.0.0.1":
        pytest.skip("the certificate of an existing cluster's API server is not one for loopback")
    with FaultProxy(server.hostname, server.port or 443) as proxy:
        yield proxy


@pytest.fixture
def through(kubeconfig: Path, proxy: FaultProxy, tmp_path: Path) -> Path:
    """The operator's credentials, by way of the proxy."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = tmp_path / "through-proxy"
    path.write_text(yaml.safe_dump(config))
    return path


def named(url: str, adapter: str) -> bool:
    """Whether the router there names a pod for it."""
    try:
        with urllib.request.urlopen(f"{url}/v1/adapters/{adapter}/pods", timeout=5) as answer:
            return bool(json.loads(answer.read())["pods"])
    except urllib.error.HTTPError as error:
        error.close()
        return False


@every_fault
def test_a_router_whose_connections_break_names_what_is_there(
    worlds: Worlds, through: Path, proxy: FaultProxy, fault: Callable[[FaultProxy], object]
) -> None:
    world = worlds(1)
    for index, name in enumerate(("goes", "comes")):
        world.adapter(name, seed=index)
    world.apply("goes", "goes")
    world.wait_ready("goes")
    with a_router(world, through, "--namespace", world.namespace) as url:
        eventually(lambda: ready(url) and named(url, "goes"), what=("the router names it",))
        fault(proxy)
        world.kubectl("delete", "la", "goes", "--wait=false")
        world.apply("comes", "comes")
        eventually(lambda: not named(url, "goes"), what=("the router names it no longer",))
        world.wait_ready("comes")
        eventually(lambda: named(url, "comes") and ready(url), what=("the router names the new one",))


@every_fault
def test_an_operator_whose_connections_break_goes_on_with_what_is_there(
    plane: ControlPlane, tmp_path: Path, through: Path, proxy: FaultProxy, fault: Callable[[FaultProxy], object]
) -> None:
    worlds = Worlds(plane, tmp_path, through)
    try:
        world = worlds(2, max_loras=1, max_cpu_loras=1)  # no room for both
        for index, name in enumerate(("goes", "comes")):
            world.adapter(name, seed=index)
        world.apply("goes", "goes", deployment={"replicas": 2})
        world.wait_ready("goes")
        fault(proxy)
        world.kubectl("delete", "la", "goes", "--wait=false")
        world.apply("comes", "comes", deployment={"replicas": 2})
        world.wait_ready("comes")
        world.wait_gone("goes")
        assert listed(world) == {"vllm-0": ["comes"], "vllm-1": ["comes"]}
        assert most_at_once(world) == 1 and set(loads(world).values()) == {1}, "over no limit, and nothing twice"
        proxy.heal()
        assert world.operator is not None
        world.operator.wait_ready()
        log = log_of(world)
        assert "Traceback" not in log and log.count("leading:") == 1, "the lead was never lost"
    finally:
        worlds.close()
