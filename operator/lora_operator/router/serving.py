"""Puts table, feed and API together over a cluster that somebody keeps up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from aiohttp import ClientSession, web

from lora_operator.informers.cache import Cluster
from lora_operator.informers.endpoints import Contents
from lora_operator.kube.client import Kube
from lora_operator.kube.own_namespace import own_namespace
from lora_operator.planning.inflight import Effect
from lora_operator.process.listening import Runner, listen
from lora_operator.process.slices import in_slices
from lora_operator.router.api import RouterApi
from lora_operator.router.early_status import Ahead
from lora_operator.router.feed import Feed
from lora_operator.router.freshness import Freshness, NoWatches, Watches
from lora_operator.router.picker import DEFAULT_RULES
from lora_operator.router.prefix_index import MOST_BLOCKS
from lora_operator.router.problems import refuse
from lora_operator.router.semantic import Semantic
from lora_operator.router.streams import StreamLimits
from lora_operator.router.table import LOG_LENGTH, RoutingTable
from lora_operator.router.traffic import Loads
from lora_operator.router.traffic_metrics import LoadMetrics
from lora_operator.router.ui.fleet import Fleet
from lora_operator.router.usage_recorder import UsageRecorder
from lora_operator.router.waiting_metrics import WaitingMetrics
from lora_operator.status.aggregate import StatusInput
from lora_operator.telemetry.server import ServeError
from lora_scheduler.routing import Rules

CLOSE_SECONDS = 2.0
NEEDED_SECONDS = 10.0  # after a pick, loads of engines are kept fresh for the next


class Router:
    """One router API. `mark` it when the cluster may have changed, call `listed` after each full list.

    `watches` fill the cluster, and `lacks` says what they cannot do without. `effects`: what is happening on a pod (by
    key), from whoever acts. `session`: of whoever talks to the engines already; it stays open.
    """

    def __init__(
        self, cluster: Cluster, kube: Kube, *, limits: StreamLimits | None = None, log_length: int = LOG_LENGTH,
        requests_namespace: str = "", on_demand_seconds: float = 300.0, load_seconds: float = 0.0,
        semantic: Semantic | None = None, watches: Watches | None = None, lacks: Callable[[], str] = lambda: "",
        effects: Callable[[str], Iterable[Effect]] | None = None, rules: Rules = DEFAULT_RULES,
        prefix_blocks: int = MOST_BLOCKS, session: ClientSession | None = None,
    ) -> None:  # fmt: skip
        self.table = RoutingTable(log_length=log_length)
        self.freshness = Freshness()
        self._asking = UsageRecorder(kube, own_namespace(requests_namespace), on_demand_seconds=on_demand_seconds)
        self._watches = watches or NoWatches()
        self.api = RouterApi(
            self.table, self.freshness, Fleet(cluster, self.table.epoch, effects), limits, self._asking, semantic,
            rules, lacks, self._watches.partly_stale, prefix_blocks,
        )  # fmt: skip
        self.api.metrics.registry.register(WaitingMetrics(self.api.decider, self._asking))
        picker = self.api.picker
        shown = LoadMetrics(lambda: self.loads.ages(), lambda: picker.spills_wanted)
        self.api.metrics.registry.register(shown)
        self.loads = Loads(
            picker.index, picker.clock, period_seconds=load_seconds, counted=shown.count,
            needed=lambda: picker.clock() - picker.picked_at < NEEDED_SECONDS, session=session,
        )  # fmt: skip
        self._feed = Feed(cluster, self.table, picker.see)
        self._tasks: list[asyncio.Task[None]] = []
        self._ahead = Ahead(cluster)
        self.mark = self._feed.mark
        self.port = 0

    def listed(self) -> None:
        """All that there is has been listed into the cluster."""
        self.freshness.heard()
        self._feed.refresh()
        self.table.set_loaded()

    async def ahead(self, inputs: Mapping[str, StatusInput], endpoints: Mapping[str, Contents | None]) -> None:
        """What the status of every resource and the LoraEndpoint of every pod will say, from whoever writes them. It
        is worked out in slices, and all of it is so at once."""
        self._feed.foresee([each async for each in in_slices(self._ahead.news(inputs))], endpoints)

    async def start(self, host: str, port: int) -> None:
        """Serve at once; the table is empty until `listed`. Raises ServeError."""
        self._runner = runner_of(self.api, CLOSE_SECONDS)
        await self._runner.setup()
        try:
            self.port = await listen(self._runner, host, port)
        except OSError as error:
            await self._runner.cleanup()
            raise ServeError(f"cannot listen on {host}:{port}: {error}; choose another port") from error
        self._tasks = [
            asyncio.create_task(self._feed.run(), name="routing table"),
            asyncio.create_task(self.freshness.keep_looking(self._watches), name="freshness"),
            asyncio.create_task(self._asking.run(), name="record of who was asked for"),
            asyncio.create_task(self.loads.run(), name="loads of engines"),
        ]

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """None of them ends by itself but by a defect."""
        return tuple(self._tasks)

    async def stop(self) -> None:
        """Let clients go and close the port."""
        self.api.stop()
        await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def runner_of(api: RouterApi, close_seconds: float) -> web.AppRunner:
    """Handlers are cancelled when their clients go: one that waits for an adapter frees its place at once."""
    return Runner(api.application(), refuse, shutdown_timeout=close_seconds, handler_cancellation=True)
