"""Puts the agent together and takes it apart again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from lora_operator.agent.evictions import Evictions
from lora_operator.agent.jobs import Jobs
from lora_operator.agent.metrics import AgentMetrics
from lora_operator.agent.readiness import Readiness
from lora_operator.agent.service import Loaded, Service, refuse
from lora_operator.agent.settings import AgentSettings
from lora_operator.agent.upkeep import Upkeep
from lora_operator.agent_api.marker import Marker
from lora_operator.agent_api.token import TokenFile
from lora_operator.cache.limits import Limits
from lora_operator.cache.policies import POLICIES
from lora_operator.cache.volume import VolumeStore
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits as FetchLimits
from lora_operator.process.listening import Runner, listen
from lora_operator.telemetry.server import ServeError
from lora_operator.tracing.collector import tracing_to

log = logging.getLogger(__name__)

OPEN_SECONDS = 2.0  # a disk is waited for that long before what is asked of it is answered


async def run_agent(settings: AgentSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Raises ServeError."""
    limits = FetchLimits(connections=settings.connections, bytes_per_second=settings.bytes_per_second)
    async with serving(settings, limits) as port:
        log.info("agent of %s: %s, budget %d bytes, port %d", settings.pod, settings.root, settings.cache_bytes, port)
        await stop.wait()
        log.info("stopping: what is being fetched goes on at the next start")


@contextlib.asynccontextmanager
async def serving(settings: AgentSettings, limits: FetchLimits) -> AsyncIterator[int]:
    """Serve while it is entered; gives the port, a free one for 0. Raises ServeError."""
    token = TokenFile(Path(settings.token_file))
    metrics, loaded = AgentMetrics(), Loaded()
    tracing = tracing_to(settings.otlp_endpoint, "lora-agent")
    evictions = Evictions(metrics)
    store = VolumeStore(
        settings.root,
        limits=Limits(settings.cache_bytes, settings.ttl),
        policy=POLICIES[settings.cache_policy],
        in_use=lambda: loaded.kept,
        on_evicted=evictions.append,
    )
    marker = Marker(settings.root, settings.pod_uid)
    readiness = Readiness(
        marker,
        engine_port=settings.engine_port,
        ready_seconds=settings.ready_seconds,
        silence_seconds=settings.silence_seconds,
    )
    upkeep = Upkeep(store, token, marker, settings.pod, loaded)
    rules = HostRules(
        settings.allowed_hosts,
        deny_private=settings.deny_private,
        private=settings.private_hosts,
        ca_file=settings.ca_file,
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, tracing.close)
        fetcher = await stack.enter_async_context(Fetcher(rules=rules, limits=limits, meter=metrics, tracing=tracing))
        jobs = Jobs(store, fetcher, tracing)
        stack.push_async_callback(jobs.stop)
        await readiness.load()
        looking = asyncio.create_task(upkeep.run(), name="upkeep")
        stack.callback(looking.cancel)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(upkeep.opened.wait(), OPEN_SECONDS)
        service = Service(
            store, jobs, token, settings.pod, settings.cache_bytes, loaded, evictions, readiness,
            upkeep.troubles, metrics, tracing,
        )  # fmt: skip
        runner = Runner(service.app(), refuse, shutdown_timeout=5.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            port = await listen(runner, settings.host, settings.port)
        except OSError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port}: {error}; choose another port"
            ) from error
        yield port
