"""`lora-operator router` as a process: watches resources and pods under an account that may only read, and serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import Kube
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.kube.preconditions import Preconditions, rights_to_answer
from lora_operator.process.components import supervise
from lora_operator.router.cluster_informers import Following
from lora_operator.router.semantic import Semantic
from lora_operator.router.serving import Router
from lora_operator.router.settings import RouterSettings
from lora_operator.router.streams import StreamLimits
from lora_operator.settings.routing_rules import rules_of

log = logging.getLogger(__name__)


async def run_router(
    settings: RouterSettings, kube: Kube, stop: asyncio.Event, semantic: Semantic | None = None
) -> None:
    """Until `stop` is set. `semantic` compares texts by meaning, if the router can do that.

    Raises:
        ServeError: the port is taken.
        ComponentExited: what must not end did; the process should be started anew.
    """
    cluster = Cluster(PodDefaults())
    limits = StreamLimits(settings.heartbeat_seconds, settings.slow_seconds, settings.streams)
    needs = Preconditions(kube, rights_to_answer(settings.namespaces, own_namespace(settings.requests_namespace)))
    following = Following(
        kube, cluster, settings.namespaces, lambda: router.mark(), needs.why, relist_seconds=settings.relist_seconds,
        all_engines=bool(settings.picker_port),  # which sends requests for base models to any pod that serves them
    )  # fmt: skip
    router = Router(
        cluster, kube, limits=limits, log_length=settings.change_log,
        load_seconds=settings.load_seconds, requests_namespace=settings.requests_namespace,
        on_demand_seconds=settings.on_demand_seconds, semantic=semantic, watches=following, lacks=needs.why,
        prefix_blocks=settings.prefix_blocks,
        rules=rules_of(settings.routing_policy, settings.routing_threshold, settings.routing_weights),
    )  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(kube.close)
        await router.start(settings.host, settings.port)
        stack.push_async_callback(router.stop)
        looking = asyncio.create_task(needs.keep_looking(), name="look for what is missing")
        stack.callback(looking.cancel)
        watching = following.start()
        stack.push_async_callback(following.stop)
        await following.until_synced(stop)
        if stop.is_set():
            return
        router.listed()
        if settings.picker_port:
            from lora_operator.picking.server import start_picker  # its libraries are an extra

            picker = await start_picker(settings, router.api, router.table, cluster)
            stack.push_async_callback(picker.stop)
        log.info("router API on port %d: %d adapters", router.port, len(router.table))
        stopping = asyncio.create_task(stop.wait(), name="stop flag")
        stack.callback(stopping.cancel)
        parts = (watching, looking, *router.tasks)
        done, _ = await asyncio.wait((stopping, *parts), return_when=asyncio.FIRST_COMPLETED)
        supervise(parts, done)
