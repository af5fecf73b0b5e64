"""A cluster as the API server would tell it, with a routing table that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_operator.api.well_known import GROUP, POD_LABEL
from lora_operator.informers.cache import Cluster
from lora_operator.informers.endpoints import Contents, HeldAdapter, body_of
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.router.feed import Feed
from lora_operator.router.table import RoutingTable

Json = dict[str, Any]
NAMESPACE = "team-a"
TIME = "2026-01-01T00:00:00Z"


class Fleet:
    """`pod` and `adapter` put (or replace) objects; `refresh` lets the table see them.

    What pods hold is told by LoraEndpoints, or (`by_status`) as an operator did that wrote none, by status alone.
    """

    by_status = False

    def __init__(self, *, log_length: int = 1000, epoch: str = "e") -> None:
        self.cluster = Cluster(PodDefaults())
        self.table = RoutingTable(log_length=log_length, epoch=epoch)
        self.feed = Feed(self.cluster, self.table)
        self._version = 0
        self._held: dict[str, dict[str, tuple[str, str]]] = {}  # pod -> adapter -> (engine name, resource)

    def pod(
        self, name: str, ip: str = "10.0.0.1", *, ready: bool = True, terminating: bool = False,
        namespace: str = NAMESPACE, uid: str = "", says: Mapping[str, str] | None = None,
        container: str = "",
    ) -> None:  # fmt: skip
        """`says`: annotations by their last part, such as `port`; a pod that says anything takes part by its label.
        `container`: the id of the one that runs."""
        metadata: Json = self._metadata(name, namespace)
        if uid:
            metadata["uid"] = uid
        if says is not None:
            metadata["labels"] = {POD_LABEL: "enabled"}
            metadata["annotations"] = {f"{GROUP}/{key}": value for key, value in says.items()}
        if terminating:
            metadata["deletionTimestamp"] = TIME
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        status: Json = {"podIP": ip, "phase": "Running", "conditions": conditions}
        if container:
            status["containerStatuses"] = [{"name": "vllm", "containerID": container, "state": {"running": {}}}]
        self.cluster.pods.put({"metadata": metadata, "spec": {"containers": [{"name": "vllm"}]}, "status": status})

    def drop_pod(self, name: str, namespace: str = NAMESPACE) -> None:
        self.cluster.pods.drop({"metadata": self._metadata(name, namespace)})

    def adapter(
        self, resource: str, pods: Json | None = None, *, names: tuple[str, ...] = (), base_model: str = "llama",
        namespace: str = NAMESPACE, deleting: bool = False, failed: Json | None = None,
        explicit: tuple[str, ...] = (), ready: tuple[str, str, str] = ("True", "Ready", ""),
        selection: Json | None = None, keywords: str = "",
        on_demand: bool = False, asked: tuple[str, ...] = (), source_ready: bool = True, replicas: int = 1,
        noted: list[Any] | None = None,
        owner: str = "", fallback: str = "",
    ) -> None:  # fmt: skip
        """`pods`: pod -> {adapter: engine name}; the pod's address is that of the cluster. `asked`: wanted now.
        `noted`: in place of what status would say of `adapters`."""
        assignments = []
        for pod, held in (pods or {}).items():
            record = self.cluster.pods.get(f"{namespace}/{pod}")
            address = f"{record.pod.ip}:{record.pod.port}" if record is not None else "10.9.9.9:8000"
            engine_names = [{"name": k, "engineName": v} for k, v in held.items() if k != v]
            item = {"pod": pod, "address": address, "adapters": [*held], "engineNames": engine_names}
            if record is not None and record.pod.container_mark:
                item["container"] = record.pod.container_mark
            assignments.append(item)
        metadata = self._metadata(resource, namespace)
        if keywords:
            metadata["annotations"] = {f"{GROUP}/keywords": keywords}
        if deleting:
            metadata["deletionTimestamp"] = TIME
        if not self.by_status:
            self._publish(resource, pods or {}, namespace)
        known = {name for held in (pods or {}).values() for name in held} | set(names)
        status: Json = {
            **({"podAssignments": assignments} if self.by_status else {"pods": len(assignments)}),
            "phase": "Ready",
            "adapters": noted
            or [{"name": name, "replicas": int(not on_demand or name in asked)} for name in sorted(known)],
            "failedAdapters": [{"name": name, "reason": "x", **more} for name, more in (failed or {}).items()],
            "conditions": [
                {"type": kind, "status": said[0], "reason": said[1], "message": said[2], "lastTransitionTime": TIME}
                for kind, said in (("Ready", ready), ("SourceReady", (str(source_ready), "Resolved", "")))
            ],
        }
        source = {"type": "local", "repository": "/models/x", "adapters": list(explicit)}
        deployment = {"loadOnStartup": not on_demand, "replicas": replicas}
        spec = {"baseModel": base_model, "adapterSource": source, "deploymentConfig": deployment}
        spec |= {} if selection is None else {"selection": selection}
        spec |= ({"owner": owner} if owner else {}) | ({"fallback": fallback} if fallback else {})
        self.cluster.adapters.put({"metadata": metadata, "spec": spec, "status": status})

    def endpoint(self, pod: str, held: Mapping[str, tuple[str, str]], namespace: str = NAMESPACE) -> None:
        """The pod's LoraEndpoint as the pod is now: by adapter its engine name and LoraAdapter."""
        key = f"{namespace}/{pod}"
        self.cluster.endpoints.put(
            body_of(key, self.contents(pod, held, namespace)) | {"metadata": self._metadata(pod, namespace, owner=True)}
        )

    def contents(self, pod: str, held: Mapping[str, tuple[str, str]], namespace: str = NAMESPACE) -> Contents:
        """What such a LoraEndpoint says."""
        record = self.cluster.pods.get(f"{namespace}/{pod}")
        address = f"{record.pod.ip}:{record.pod.port}" if record is not None else "10.9.9.9:8000"
        mark = record.pod.container_mark if record is not None else ""
        entries = (HeldAdapter(name, engine, "", resource) for name, (engine, resource) in sorted(held.items()))
        return Contents(record.uid if record is not None else "", address, mark, ("llama",), tuple(entries))

    def drop_endpoint(self, pod: str, namespace: str = NAMESPACE) -> None:
        self.cluster.endpoints.drop({"metadata": self._metadata(pod, namespace)})

    def _publish(self, resource: str, pods: Json, namespace: str) -> None:
        """Let LoraEndpoints say that the resource's adapters are on these pods and no others."""
        for pod in {*pods, *(key.partition("/")[2] for key in self._held if key.startswith(f"{namespace}/"))}:
            key = f"{namespace}/{pod}"
            before = self._held.get(key, {})
            after = {name: held for name, held in before.items() if held[1] != resource}
            after |= {name: (engine_name, resource) for name, engine_name in pods.get(pod, {}).items()}
            if after != before or pod in pods:
                self._held[key] = after
                self.endpoint(pod, after, namespace)

    def drop_adapter(self, resource: str, namespace: str = NAMESPACE) -> None:
        self.cluster.adapters.drop({"metadata": self._metadata(resource, namespace)})

    def refresh(self) -> int:
        return self.feed.refresh()

    def pods_of(self, name: str, namespace: str = NAMESPACE) -> list[str]:
        entry = self.table.get(namespace, name)
        assert entry is not None
        return [one.pod for one in entry.endpoints]

    def _metadata(self, name: str, namespace: str, *, owner: bool = False) -> Json:
        self._version += 1
        record = self.cluster.pods.get(f"{namespace}/{name}") if owner else None
        owners = [{"kind": "Pod", "name": name, "uid": record.uid}] if record is not None else []
        return ({"ownerReferences": owners} if owners else {}) | {
            "name": name,
            "namespace": namespace,
            "uid": f"{namespace}-{name}",
            "resourceVersion": f"{self._version}",
        }


def a_fleet(**options: Any) -> Fleet:
    """Two ready pods; `sql` on both, `chat` on the first under a versioned name."""
    fleet = Fleet(**options)
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.pod("vllm-1", "10.0.0.2")
    fleet.adapter("two", {"vllm-0": {"sql": "sql", "chat": "chat--1234"}, "vllm-1": {"sql": "sql"}})
    fleet.refresh()
    return fleet
