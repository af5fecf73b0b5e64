"""The operator's own loop with all its parts, simulated engines and a small API server, in one process without watches.

async with a_fleet(tmp_path, pods=2) as fleet:
    fleet.write("sql"); fleet.apply("la", "sql", replicas=2)
    await fleet.until(lambda: fleet.ready("la"))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.vllm_sim import Engine, serve
from e2e.world.adapters import write_adapter
from lora_operator.informers.records import key_of
from lora_operator.kube.own_writes import LORA_ADAPTER, LORA_ENDPOINT
from lora_operator.manager.operator import Operator
from lora_operator.settings.operator import Settings
from lora_operator.sources import FoundAdapter
from lora_scheduler import Adapter
from tests.core.api_server import ApiServer, an_api_server

GROUP = "production-stack.vllm-project"
ADAPTERS = f"/apis/{GROUP}/v1alpha1/namespaces/ns/loraadapters"
PODS = "/api/v1/namespaces/ns/pods"
QUICK = {
    "probe_seconds": 0.05,
    "probe_timeout": 60.0,  # whoever tests what hangs says how long: on a busy machine anything may take a second
    "hold_seconds": 0.3,
    "load_timeout": 60.0,
    "unload_timeout": 60.0,
    "withdraw_seconds": 0.02,
    "retry_seconds": 0.05,
    "source_seconds": 0.05,
    "settle_seconds": 0.0,
    "status_quiet_seconds": 0.01,
    "finalizer_seconds": 60.0,
    "health_port": 0,
    "router_port": 0,
    "metrics_port": 0,
}
Json = dict[str, Any]


class Fleet:
    """What a test holds on to. Engines by the name of their pod."""

    def __init__(self, api: ApiServer, folder: Path, settings: Settings) -> None:
        self.api = api
        self.source = folder / "source"
        self.volume = folder / "volume"
        self.settings = settings
        self.engines: dict[str, Engine] = {}
        self.operator = Operator(settings, api.kube)
        self._uids = 0
        self._tasks: list[asyncio.Task[Any]] = []
        api.watcher = self._watch

    # the operator

    @property
    def observers(self) -> Any:
        return self.operator.loop.reconciler.observers

    @property
    def actors(self) -> Any:
        return self.operator.loop.reconciler.actors

    @property
    def ledger(self) -> Any:
        return self.operator.loop.reconciler.in_flight.ledger

    @property
    def failures(self) -> Any:
        return self.operator.loop.reconciler.in_flight.failures

    async def start(self) -> None:
        """As `Operator.run` does, with our own watch."""
        for path in list(self.api.objects):
            self._watch("ADDED", path, self.api.objects[path])
        self._tasks = [asyncio.create_task(self.operator.loop.run())]

    async def stop(self) -> None:
        await self.operator.finish(self._tasks, grace_seconds=0.2)
        await self.operator.files.stop()
        await self.operator._session.close()

    async def restart(self) -> None:
        """Another process takes over, which knows nothing of the first."""
        await self.stop()
        await self.start_anew()

    async def start_anew(self) -> None:
        """After `stop`, the next process."""
        self.operator = Operator(self.settings, self.api.kube)
        await self.start()

    def _watch(self, kind: str, path: str, body: Json) -> None:
        cluster = self.operator.cluster
        kinds = {"loraadapters": cluster.adapters, "loraendpoints": cluster.endpoints, "pods": cluster.pods}
        cache: Any = kinds.get(path.split("/")[-2])
        if cache is None or not (cache.drop(body) if kind == "DELETED" else cache.put(body)):
            return
        ours = {"loraadapters": LORA_ADAPTER, "loraendpoints": LORA_ENDPOINT}.get(path.split("/")[-2], "")
        if kind == "DELETED" or not self.operator._is_ours((ours, key_of(body))):
            self.operator.loop.mark()

    async def until(self, done: Callable[[], Any], timeout: float = 120.0) -> None:
        """Poll a condition."""
        deadline = asyncio.get_running_loop().time() + timeout
        while not done():
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"not so within {timeout:g} s: {self._picture()}")
            await asyncio.sleep(0.005)

    async def rounds(self, count: int = 3) -> None:
        """Let so many planning rounds pass."""
        for _ in range(count):
            await self.operator.loop.next_cycle()

    async def settle_rounds(self) -> None:
        """Until no round goes on or is called for."""
        await self.until(lambda: self.operator.loop.idle)

    async def settle(self) -> None:
        """Until nothing is under way and status has been written."""
        await self.until(lambda: not len(self.ledger) and self.operator.loop.idle)
        await self.until(lambda: self.operator._writes.idle)

    def stall(self) -> asyncio.Event:
        """Hold every answer of the API server until the event is set."""
        self.api.stall = asyncio.Event()
        return self.api.stall

    def hold_fetches(self, patch: pytest.MonkeyPatch) -> asyncio.Event:
        """Hold every copy to the adapter volume until the event is set."""
        store, go = self.operator.files.store, asyncio.Event()
        publish = store.publish

        async def held(adapter: FoundAdapter, folder: Path) -> Path:
            await go.wait()
            return await publish(adapter, folder)

        patch.setattr(store, "publish", held)
        return go

    def events(self) -> list[str]:
        """The reasons of the Events that were written."""
        pairs = zip(self.api.calls, self.api.bodies, strict=True)
        return [body["reason"] for (method, path), body in pairs if method == "POST" and path.endswith("/events")]

    def _picture(self) -> str:
        statuses = {path.rpartition("/")[2]: self.status(path.rpartition("/")[2]) for path in self._adapters()}
        views = {key: (str(v.state), [m.name for m in v.models]) for key, v in self.observers.engines.views.items()}
        return f"{statuses}\n{views}\n{self.listed()}"

    # pods and engines

    async def add_pod(
        self,
        name: str,
        *arguments: str,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        gate: bool = False,
        env: Mapping[str, str] | None = None,
        hidden: Mapping[str, str] | None = None,
    ) -> Engine:
        """A pod with a running engine on a free port of loopback; `hidden`: environment that the pod does not show."""
        flags = ["--model", "tiny", "--enable-lora", "--max-loras", "4", "--max-cpu-loras", "8", *arguments]
        quick = ["--sim-startup-seconds", "0", "--sim-load-seconds", "0", "--port", "0"]
        variables = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} | dict(env or {})
        engine = self.engines[name] = await serve([*quick, *flags], variables | dict(hidden or {}))
        if hidden is not None:
            variables = dict(env or {})
        self._uids += 1
        body: Json = {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": f"uid-{self._uids}",
                "labels": {f"{GROUP}/lora": "enabled"} if labels is None else dict(labels),
                "annotations": {f"{GROUP}/port": str(engine.port)} | dict(annotations or {}),
            },
            "spec": {
                "nodeName": "node",
                "containers": [{"name": "vllm", "args": flags, "env": [{"name": k, "value": v} for k, v in
                                                                       variables.items()]}],
                "readinessGates": [{"conditionType": f"{GROUP}/adapters-loaded"}] if gate else [],
            },
            "status": {
                "phase": "Running",
                "podIP": "127.0.0.1",
                "containerStatuses": [
                    {"name": "vllm", "containerID": f"c-{self._uids}", "state": {"running": {}}, "restartCount": 0}
                ],
            },
        }  # fmt: skip
        self.api.put(f"{PODS}/{name}", body)
        return engine

    def change_pod(self, name: str, change: Callable[[Json], object]) -> None:
        body = self.api.objects[f"{PODS}/{name}"]
        change(body)
        self.api.put(f"{PODS}/{name}", body)

    def remove_pod(self, name: str) -> None:
        self.api.remove(f"{PODS}/{name}")

    def view(self, pod: str) -> Any:
        return self.observers.engines.views.get(f"ns/{pod}")

    def listed(self) -> dict[str, list[str]]:
        """What each engine lists, sorted."""
        return {pod: sorted(engine.adapters) for pod, engine in self.engines.items() if engine.adapters}

    def on(self, pod: str) -> list[str]:
        return self.listed().get(pod, [])

    # adapters

    def adapter(self, name: str) -> Adapter:
        """What the last round made of the adapter called like its resource."""
        found = self.operator.loop.reconciler.last
        assert found is not None
        return found.desired.adapters[f"ns/{name}/{name}"].adapter

    def write(self, path: str, **options: Any) -> Path:
        return write_adapter(self.source / path, base_model="tiny", **({"rank": 2} | options))

    def apply(self, name: str, path: str, *, selector: Mapping[str, str] | None = None, **deployment: Any) -> None:
        """Create or change a LoraAdapter of a folder below the source folder."""
        if selector is not None:
            deployment["podSelector"] = {"matchLabels": dict(selector)}
        spec = {
            "baseModel": "tiny",
            "adapterSource": {"type": "local", "repository": str(self.source / path)},
            "deploymentConfig": deployment,
        }
        known = self.api.objects.get(f"{ADAPTERS}/{name}")
        if known is None:
            self._uids += 1
            metadata = {
                "name": name, "namespace": "ns", "uid": f"uid-{self._uids}", "generation": 1,
                "creationTimestamp": f"2026-01-01T00:{self._uids // 60:02}:{self._uids % 60:02}Z",
            }  # fmt: skip
            known = {"metadata": metadata, "status": {}}
        else:
            known["metadata"]["generation"] += 1
        self.api.put(f"{ADAPTERS}/{name}", known | {"spec": spec})

    def delete(self, name: str) -> None:
        self.api.delete(f"{ADAPTERS}/{name}")

    def exists(self, name: str) -> bool:
        return f"{ADAPTERS}/{name}" in self.api.objects

    def status(self, name: str) -> Json:
        return dict(self.api.objects.get(f"{ADAPTERS}/{name}", {}).get("status") or {})

    def condition(self, name: str, kind: str = "Ready") -> Json:
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def ready(self, name: str) -> bool:
        body = self.api.objects.get(f"{ADAPTERS}/{name}", {})
        seen = self.status(name).get("observedGeneration") == body.get("metadata", {}).get("generation")
        return seen and self.condition(name).get("status") == "True"

    def assigned(self, name: str) -> dict[str, list[str]]:
        return {item["pod"]: item["adapters"] for item in self.status(name).get("podAssignments", [])}

    def published(self, pod: str) -> set[str]:
        """The adapters that the pod's LoraEndpoint names: what routers go by."""
        path = f"/apis/production-stack.vllm-project/v1alpha1/namespaces/ns/loraendpoints/{pod}"
        return set(self.api.objects.get(path, {}).get("adapters") or ())

    def failed(self, name: str) -> dict[str, str]:
        return {item["name"]: item["code"] for item in self.status(name).get("failedAdapters", [])}

    def _adapters(self) -> list[str]:
        return [path for path in self.api.objects if "/loraadapters/" in path]


@asynccontextmanager
async def a_fleet(folder: Path, *, pods: int = 0, **settings: Any) -> AsyncIterator[Fleet]:
    """A started fleet of `pods` pods called p0, p1 and so on; everything ends with it."""
    async with an_api_server() as api:
        (folder / "source").mkdir()
        (folder / "volume").mkdir()
        api.objects["/api/v1/nodes/node"] = {"metadata": {"name": "node", "labels": {}}}
        chosen = replace(Settings(), adapter_root=folder / "volume", **(QUICK | settings))
        fleet = Fleet(api, folder, chosen)
        try:
            for number in range(pods):
                await fleet.add_pod(f"p{number}")
            await fleet.start()
            yield fleet
        finally:
            for engine in fleet.engines.values():
                engine.faults.clear()
            await fleet.stop()
            await asyncio.gather(*(engine.kill() for engine in fleet.engines.values()))
