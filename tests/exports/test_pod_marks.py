"""A pod's mark changes when what its engine lists has changed, and never before."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lora_operator.engines.liveness import EngineView
from lora_operator.exports.pod_marks import PodMarks, mark_of
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.write_queue import Writes
from lora_operator.vllm.answers import EngineModel
from lora_operator.vllm.engine_state import EngineState
from tests.core.api_server import an_api_server

POD = "/api/v1/namespaces/ns/pods/p0"
SQL, CHAT = (EngineModel(name, f"/adapters/{name}/1", "tiny") for name in ("sql", "chat"))


async def test_a_pod_is_marked_when_its_engine_lists_something_else_and_only_then() -> None:
    async with an_api_server() as api:
        cluster, writes = Cluster(PodDefaults()), Writes()
        cluster.pods.put(api.put(POD, {"metadata": {"name": "p0", "namespace": "ns", "uid": "u"}}))
        marks = PodMarks(api.kube, cluster, writes)

        async def after(view: EngineView) -> str:
            marks.offer({"ns/p0": cluster.pods["ns/p0"]}, {"ns/p0": view})
            async with asyncio.timeout(30):
                while not writes.idle:  # noqa: ASYNC110 - what it waits for has no event
                    await asyncio.sleep(0.005)
            return cluster.pods["ns/p0"].models_mark

        view = EngineView("i", EngineState.UP)
        assert await after(view) == "" and api.calls == []
        assert await after(replace(view, models=(SQL, CHAT))) == mark_of((CHAT, SQL)) != ""
        await after(replace(view, models=(CHAT, SQL)))
        assert await after(replace(view, state=EngineState.DOWN)) == mark_of((CHAT, SQL))
        assert len(api.calls) == 1
        assert await after(replace(view, models=(SQL, replace(CHAT, root="/adapters/chat/2")))) != mark_of((CHAT, SQL))
        assert await after(view) == ""
        await writes.stop(0.1)
