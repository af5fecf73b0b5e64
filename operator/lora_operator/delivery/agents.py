"""The agent way: each pod's (or node's) agent fetches what the operator orders, and keeps what is loaded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from lora_operator.agent_api.wire import EntryBody, EvictedBody
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.delivery.delivery_router import Locate, Report
from lora_operator.delivery.manifests import Manifests
from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.engines.prober import instance_of
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import KubeError
from lora_operator.planning.agent_disks import AgentDisks, unwanted
from lora_operator.sources import SourceError
from lora_operator.vllm.answers import Endpoint

log = logging.getLogger(__name__)

# an agent is told again what it was told, and lists its disk: it says what was evicted, and whose holds it keeps
AGAIN_SECONDS = 300.0
MOST_REMOVED = 100  # versions from one disk at a time
PACE_SECONDS = 0.25  # an agent that answers at once, and has nothing new, is asked no more often
STALLED_SECONDS = 900.0  # without a byte; another agent of the node may be fetching, or the server may ask for patience
LATE_FIRST_SECONDS, LATE_LAST_SECONDS = 0.1, 2.0  # between two tries at an agent that is not there: 3 s in all
Key = tuple[str, str]


class Agents:
    """`client_of` gives the client for the agents of a namespace. `loaded_on` gives all versions that a pod's engine
    lists or is about to get, None while nobody knows; `pinned`, what a pod's namespace has pinned. `gone` says of
    "namespace/name" that there is certainly no such pod any more, `known` that this operator sees that pod. `fence`
    raises KubeError where another operator may be acting by now: what this one knows of loaded files may be out of date
    then. `secrets`: see `Orders`. `wanted` gives all versions that are to stay on disks, None while nobody can tell:
    others are removed once they have not been used for `retain_seconds`.
    """

    def __init__(
        self,
        client_of: Callable[[str], AgentClient],
        locate: Locate,
        loaded_on: Callable[[str], frozenset[Key] | None],
        on_evicted: Callable[[PodRecord, EvictedBody], None],
        *,
        pinned: Callable[[str], frozenset[Key]] = lambda _: frozenset(),
        gone: Callable[[str], bool] = lambda _: False,
        fence: Callable[[], None] = lambda: None,
        known: Callable[[str], bool] = lambda _: False,
        secrets: bool = False,
        wanted: Callable[[], set[Key] | None] = lambda: None,
        retain_seconds: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.disks = AgentDisks()
        self._client_of = client_of
        self._wanted = wanted
        self._retain_seconds = retain_seconds
        self._clock = clock
        self._orders = Manifests(locate, clock, secrets=secrets)
        self._loaded_on = loaded_on
        self._on_evicted = on_evicted
        self._pinned = pinned
        self._gone, self._known = gone, known
        self._fence = fence
        # pod -> container, what its agent was told last: loaded, pinned
        self._told: dict[str, tuple[str, frozenset[Key], frozenset[Key]]] = {}
        self._told_at: dict[str, float] = {}  # monotonic
        self._begun: dict[str, int] = {}  # pod -> how often telling it has begun
        self._held: dict[str, tuple[int, frozenset[Key]]] = {}  # pod -> which of these times, what its agent holds
        self._strangers: set[str] = set()  # pods on whose disks others have files that this operator knows nothing of
        self._listed: dict[str, tuple[str, float]] = {}  # pod -> uid, when its agent has listed its disk (monotonic)
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def bring(self, record: PodRecord, wanted: DesiredAdapter, report: Report) -> None:
        """See `Delivery`."""
        key = (wanted.adapter.name, wanted.adapter.version)
        try:
            order = await self._orders.get(wanted)
        except (AgentError, SourceError):
            with contextlib.suppress(AgentError):
                if key in await self._tell(record, also=key):
                    return  # on its disk from before: nobody need be asked for it
            raise
        try:
            await self._fetch(record, wanted, report, order)
        except AgentError as error:
            if error.reason != "CacheFull":
                raise
            # an agent that was not told what is loaded since its start has to keep everything
            await self._tell(record)
            await self._fetch(record, wanted, report, order)
        if key not in await self._tell(record, also=key):
            raise AgentError(
                "NotStored",
                f"{wanted.adapter.name} left the agent's disk before it was loaded: it is too small for what is wanted",
                retryable=True,
            )

    async def prefetch(self, record: PodRecord, wanted: DesiredAdapter) -> None:
        """See `Delivery`."""
        await self._fetch(record, wanted, lambda _: None, prefetch=True)

    def sync_targets(self, pods: Mapping[str, PodRecord]) -> None:
        """Tell agents what their engines have, where that changed: files that nobody has loaded may go."""
        agents = {key: record for key, record in pods.items() if record.pod.agent_port and record.pod.ip}
        tables: tuple[dict[str, object], ...] = (self._told, self._told_at, self._begun, self._held, self._locks,
                                                 self._listed)  # type: ignore[assignment]  # fmt: skip
        for table in tables:
            for key in [key for key in table if key not in agents]:
                del table[key]
        self.disks.prune(agents)
        self._strangers &= agents.keys()
        now = time.monotonic()
        for key, record in agents.items():
            loaded = self._loaded_on(key)
            if loaded is None or key in self._telling:
                continue
            is_due = now - self._told_at.get(key, 0.0) > AGAIN_SECONDS
            is_listed = self._listed.get(key, ("", 0.0))[0] == record.uid
            if self._told.get(key) == (instance_of(record), loaded, self._pinned(key)) and is_listed and not is_due:
                continue
            task = asyncio.create_task(self._tell_quietly(record), name=f"agent of {key}")
            self._telling[key] = task
            task.add_done_callback(lambda _, key=key: self._telling.pop(key, None))  # type: ignore[misc]

    async def stop(self) -> None:
        for task in list(self._telling.values()):
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)
        await self._orders.stop()

    async def _fetch(
        self, record: PodRecord, wanted: DesiredAdapter, report: Report, order: FetchManifest | None = None, *,
        prefetch: bool = False,
    ) -> None:  # fmt: skip
        order = order or await self._orders.get(wanted)
        loop = asyncio.get_running_loop()
        done_bytes, moved_at = -1, loop.time()
        while True:
            asked_at = loop.time()
            entry = await self._asked(record, order, prefetch)
            if entry.state == "Present":
                self.disks.came(record, (order.name, order.fingerprint))
                return
            if entry.state == "Failed":
                raise _failed(entry)
            report(entry.done_bytes)
            now = loop.time()
            if entry.done_bytes != done_bytes:
                done_bytes, moved_at = entry.done_bytes, now
            elif now - moved_at > STALLED_SECONDS:
                raise AgentError(
                    "AgentStalled",
                    f"the agent of {record.key} has fetched nothing of {wanted.adapter.name} for "
                    f"{STALLED_SECONDS:g} s: see the log of the pod's agent container",
                    retryable=True,
                )
            await asyncio.sleep(max(asked_at + PACE_SECONDS - now, 0.0))
            if entry.wants_links or self._orders.runs_out(order):
                order = await self._orders.get(wanted, order if entry.wants_links else None)

    async def _asked(self, record: PodRecord, order: FetchManifest, prefetch: bool) -> EntryBody:
        """The agent of a new pod may be a little later than its engine, which is nobody's failure."""
        endpoint, pause = _endpoint(record), LATE_FIRST_SECONDS
        while True:
            self._fence()
            try:
                return await self._client_of(record.pod.namespace).fetch(endpoint, order, prefetch=prefetch)
            except AgentError as error:
                if error.reason != "AgentUnreachable" or prefetch or pause > LATE_LAST_SECONDS:
                    raise
            await asyncio.sleep(pause)
            pause *= 2

    async def _tell(self, record: PodRecord, also: Key | None = None) -> frozenset[Key]:
        """One at a time for each pod, so that no older list arrives after a newer one. Many loads that wait here at
        the same time share one telling, as it names all that are on their way."""
        before = self._begun.get(record.key, 0)
        async with self._locks.setdefault(record.key, asyncio.Lock()):
            number, held_then = self._held.get(record.key, (0, frozenset()))
            loaded = self._loaded_on(record.key)
            if loaded is None:
                raise AgentError(
                    "PodNotReady", f"what the engine of {record.key} has loaded is not known just now", retryable=True
                )
            versions = loaded | {also} if also is not None else loaded
            telling = (instance_of(record), versions, self._pinned(record.key))
            told = self._told.get(record.key)
            if told is not None and told[0] == telling[0] and also in held_then:
                return held_then  # it stays: whatever the agent is told from now on names it, too
            if also is None and number > before and told == telling:
                return held_then
            self._begun[record.key] = number = self._begun.get(record.key, 0) + 1
            client, endpoint = self._client_of(record.pod.namespace), _endpoint(record)
            self._fence()
            self._told.pop(record.key, None)  # without an answer nobody knows which list it has
            held = await client.loaded(endpoint, versions, telling[2])
            self._told[record.key] = telling
            self._told_at[record.key] = time.monotonic()
            for gone in held.evicted:
                self.disks.gone(record, (gone.name, gone.fingerprint))
                self._on_evicted(record, gone)
            others = [holder for holder in held.holders if not self._known(holder) and not self._gone(holder)]
            (self._strangers.add if others else self._strangers.discard)(record.key)
            for holder in held.holders:
                if holder != record.key and self._gone(holder):
                    log.info("pod %s is gone: what it held on the disk of pod %s may go", holder, record.key)
                    await client.let_go(endpoint, holder)
            there = frozenset((version.name, version.fingerprint) for version in held.versions)
            self._held[record.key] = (number, there)
            return there

    async def _tell_quietly(self, record: PodRecord) -> None:
        try:
            await self._tell(record)
            await self._list(record)
        except (AgentError, KubeError) as error:
            log.debug("the agent of %s does not know what is loaded: %s", record.key, error)
            await asyncio.sleep(1.0)  # the next round tries again

    async def _list(self, record: PodRecord) -> None:
        """Have the agent list its disk, unless it has done so lately, and remove what nobody wants."""
        uid, listed_at = self._listed.get(record.key, ("", 0.0))
        if uid == record.uid and time.monotonic() - listed_at < AGAIN_SECONDS:
            return
        client, endpoint = self._client_of(record.pod.namespace), _endpoint(record)
        listed = await client.entries(endpoint)
        self._listed[record.key] = record.uid, time.monotonic()
        self.disks.listed(record, listed)
        wanted = None if record.key in self._strangers else self._wanted()
        if wanted is None:
            return
        for key in unwanted(listed, wanted, self._clock() - self._retain_seconds)[:MOST_REMOVED]:
            self._fence()
            try:
                await client.remove(endpoint, key)
            except AgentError as error:
                if error.reason not in ("InUse", "Pinned"):
                    raise
                continue  # another pod of the node has it
            self.disks.gone(record, key)
            log.info("%s %s, which nobody wants, was removed from the disk of pod %s", *key, record.key)


def _endpoint(record: PodRecord) -> Endpoint:
    if record.pod.ip is None or record.pod.agent_port is None:
        raise AgentError("AgentUnreachable", f"pod {record.key} has no address yet", retryable=True)
    return Endpoint(record.pod.ip, record.pod.agent_port)


def _failed(entry: EntryBody) -> AgentError:
    if entry.problem is None:
        return AgentError("AgentFailed", "the agent gave no reason: see its log", retryable=True)
    problem = entry.problem
    return AgentError(
        problem.reason, problem.message, retryable=problem.retryable, retry_after_seconds=problem.retry_after_seconds
    )
