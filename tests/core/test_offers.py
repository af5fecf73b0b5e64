"""When statuses are offered to be written, and how long those wait that will be other ones soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Priority, Writes
from lora_operator.planning.fault_isolation import Isolation
from lora_operator.status.endpoint_writer import EndpointWriter
from lora_operator.status.offers import Offers
from lora_operator.status.writer import LONGEST_WAIT_SECONDS, StatusWriter
from lora_operator.telemetry.metrics import Metrics
from tests.core.api_server import an_api_server
from tests.core.builders import a_state, given


class Noted(Writes):
    """A queue that writes nothing, and remembers how long each may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: dict[str, tuple[Priority, float]] = {}

    def put(self, key: Any, write: Any, priority: Priority, delay: float = 0.0) -> None:
        self.waits[key[1]] = (priority, delay)


@asynccontextmanager
async def offered(*names: str, incomplete: int, deleted: bool = False) -> AsyncIterator[Noted]:
    """What became of these LoraAdapters, the first of which have no replica: not yet, or no more."""
    async with an_api_server() as api:
        metrics, cluster, writes = Metrics(), Cluster(PodDefaults()), Noted()
        publisher = StatusWriter(api.kube, cluster, writes, Recorder(api.kube, writes), metrics, quiet_seconds=0.25)
        for name in names:
            metadata: dict[str, Any] = {
                "name": name,
                "namespace": "ns",
                "uid": name,
                "resourceVersion": "1",
                "generation": 1,
            }
            spec = {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}}
            status: dict[str, Any] = {}
            if deleted:
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
                status = {"podAssignments": [{"pod": "p0", "adapters": [name]}]}
            cluster.adapters.put({"metadata": metadata, "spec": spec, "status": status})
        inputs = {
            f"ns/{name}": given(a_state(name, replicas=0, moving=True) if number < incomplete else a_state(name))
            for number, name in enumerate(names)
        }
        resources = {resource.key: resource for resource in cluster.adapters.values()}
        offers = Offers(cluster, publisher, EndpointWriter(api.kube, cluster, writes, metrics))
        await offers.offer(inputs, resources, Isolation())
        await asyncio.sleep(0)
        yield writes


async def test_one_that_is_loading_tells_so_soon() -> None:
    async with offered("a", incomplete=1) as writes:
        assert writes.waits == {"ns/a": (Priority.PROGRESS, 0.25)}


async def test_of_many_that_are_loading_none_is_told_before_most_are_ready() -> None:
    names = [f"a{number}" for number in range(300)]
    async with offered(*names, incomplete=299) as writes:
        assert set(list(writes.waits.values())[:299]) == {(Priority.PROGRESS, LONGEST_WAIT_SECONDS)}
        assert writes.waits["ns/a299"] == (Priority.STATUS, 0.0)


async def test_that_one_leaves_its_pods_is_told_at_once_when_it_is_deleted_and_of_many_later() -> None:
    async with offered("a", incomplete=1, deleted=True) as writes:
        assert writes.waits == {"ns/a": (Priority.STATUS, 0.1)}
    names = [f"a{number}" for number in range(100)]
    async with offered(*names, incomplete=100, deleted=True) as writes:
        assert set(writes.waits.values()) == {(Priority.PROGRESS, LONGEST_WAIT_SECONDS)}
