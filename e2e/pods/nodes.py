"""The Nodes that pods are bound to: created, kept alive by their Leases, lost when a test wants it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from e2e.pods.api import Api, ApiError, Json
from e2e.pods.containers import timestamp

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_SECONDS = 40
ZONES = "abc"
RETRY_SECONDS = 0.2
# a kubelet looks at its node's status now and then, and corrects what others (the node controller) made of it
STATUS_EVERY = 4


class Nodes:
    """`addresses` maps the names of the Nodes to their addresses, in the order in which pods are dealt out."""

    def __init__(self, api: Api, addresses: dict[str, str], renew_seconds: float) -> None:
        self._api = api
        self.addresses = addresses
        self._renew_seconds = renew_seconds
        self._turn = 0
        self.lost: set[str] = set()

    async def register(self) -> None:
        """Create the Nodes (or take over those that are there), Ready."""
        await asyncio.gather(*(self._register(name) for name in self.addresses))

    async def keep_alive(self) -> None:
        """Renew the Leases until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(self._renew_seconds)
            turn += 1
            await asyncio.gather(*(self._beat(name, turn) for name in self.addresses if name not in self.lost))

    def next(self, selector: dict[str, str]) -> str | None:
        """The Node for the next pod, in turn; None if no Node that lives has the labels."""
        names = list(self.addresses)
        for step in range(len(names)):
            name = names[(self._turn + step) % len(names)]
            if name not in self.lost and selector.items() <= self._labels(name).items():
                self._turn = (self._turn + step + 1) % len(names)
                return name
        return None

    async def _register(self, name: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": self._labels(name)}}
        # not for the pods of others, should this be a cluster that has some
        node["spec"] = {"taints": [{"key": "lora-operator.dev/test-node", "value": "true", "effect": "NoSchedule"}]}
        try:
            await self._api.create("/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:
                raise
            await self._api.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": self._labels(name)}})
        await self._set_ready(name)
        # the API server creates the namespace of the Leases only after it is ready
        while not await self._renew(name):  # noqa: ASYNC110
            await asyncio.sleep(RETRY_SECONDS)

    async def _beat(self, name: str, turn: int) -> None:
        if await self._renew(name) and turn % STATUS_EVERY == 0:
            try:
                node = await self._api.get(f"/api/v1/nodes/{name}")
                conditions = node.get("status", {}).get("conditions") or []
                if not any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
                    await self._set_ready(name)
            except ApiError:
                return  # at the next turn again

    async def _renew(self, name: str) -> bool:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
        try:
            await self._api.patch(f"{LEASES}/{name}", {"spec": spec})
            return True
        except ApiError as error:
            if error.status != 404:
                return False
        try:
            await self._api.create(LEASES, lease)
            return True
        except ApiError:
            return False

    async def restore(self, name: str) -> None:
        self.lost.discard(name)
        await self._renew(name)
        await self._set_ready(name)

    async def _set_ready(self, name: str) -> None:
        now = timestamp()
        quantities = {"cpu": "1000", "memory": "1000Gi", "pods": "1000", "ephemeral-storage": "1000Gi"}
        ready: Json = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played by e2e.pods"}
        status = {
            "addresses": [
                {"type": "InternalIP", "address": self.addresses[name]},
                {"type": "Hostname", "address": name},
            ],
            "capacity": quantities,
            "allocatable": quantities,
            "conditions": [{**ready, "lastHeartbeatTime": now, "lastTransitionTime": now}],
        }
        await self._api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def _labels(self, name: str) -> dict[str, str]:
        zone = ZONES[list(self.addresses).index(name) % len(ZONES)]
        return {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": f"zone-{zone}",
            "lora-operator.dev/test-node": "true",
        }
