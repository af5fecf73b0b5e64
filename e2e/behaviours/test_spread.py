"""Replicas spread over the zones that the labels of the nodes name."""

from __future__ import annotations

from e2e.behaviours.worlds import Worlds
from e2e.world.world import assigned

ZONE = "topology.kubernetes.io/zone"


def test_replicas_spread_over_zones_where_the_resource_says_so(worlds: Worlds) -> None:
    world = worlds(6, pod_options={"nodes": 6})
    nodes = {
        item["metadata"]["name"]: item["metadata"]["labels"][ZONE] for item in world.rest.get("/api/v1/nodes")["items"]
    }
    pods = world.rest.get(f"/api/v1/namespaces/{world.namespace}/pods")["items"]
    zones = {pod["metadata"]["name"]: nodes[pod["spec"]["nodeName"]] for pod in pods}
    assert sorted(zones.values()) == ["zone-a", "zone-a", "zone-b", "zone-b", "zone-c", "zone-c"]
    names = [f"sql-{number}" for number in range(5)]
    for name in names:
        world.adapter(name, inside="all")
    world.apply("all", "all", deployment={"replicas": 3}, scheduling={"topologyKey": ZONE})
    held = assigned(world.wait_ready("all")["status"])
    for name in names:
        assert sorted(zones[pod] for pod, listed in held.items() if name in listed) == ["zone-a", "zone-b", "zone-c"]
