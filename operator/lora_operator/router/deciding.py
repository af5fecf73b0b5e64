"""What becomes of one request: the endpoint that it should go to, or why there is none. Knows nothing of HTTP or gRPC.

Who waits for an adapter is woken by the change of the table that it waits for, and by nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.picker import NONE, Picker
from lora_operator.router.prompt_blocks import NO_PROMPT, Prompt
from lora_operator.router.queries import AmbiguousAdapter, UnknownAdapter, find
from lora_operator.router.table import Key, RoutingTable
from lora_operator.router.usage_recorder import NotAccepted, UsageRecorder

MOST_WAIT_SECONDS = 120.0
MOST_WAITING = 10_000
RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Chosen:
    """Send it to `endpoint`, with `endpoint.engine_name` as its model."""

    entry: Entry
    endpoint: Endpoint
    policy: str


@dataclass(frozen=True, slots=True)
class Loading:
    """It was not loaded and is on its way now: come again. It is recorded that it was asked for."""

    entry: Entry
    reason: str
    message: str
    retry_after_seconds: int = RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Refused:
    """Not now. `kind`: `not-loaded`, `table-not-loaded`, or what `asking.NotAccepted` has; `reason` is typed, or empty.

    `entry` is None where nothing is known of the adapter.
    """

    kind: str
    reason: str
    message: str
    entry: Entry | None = None
    retry_after_seconds: int = RETRY_SECONDS


@dataclass(frozen=True, slots=True)
class Unknown:
    """No one adapter is meant: nobody has heard of it (`near` are names like it), or several `namespaces` have one."""

    message: str
    near: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()


Outcome = Chosen | Loading | Refused | Unknown


class Decider:
    """One table's. `stop` lets all go that wait."""

    def __init__(self, table: RoutingTable, picker: Picker, asking: UsageRecorder | None = None) -> None:
        self._table = table
        self._picker = picker
        self._asking = asking
        self._stopping = False
        self._seen = table.version
        self._waiting: dict[Key, set[asyncio.Future[None]]] = {}
        self.waiting = 0  # requests
        table.listen(self._follow)

    def choose(
        self, name: str, namespace: str | None = None, policy: str = "", key: str = "",
        avoid: frozenset[str] = NONE, prompt: Prompt = NO_PROMPT, owners: frozenset[str] | None = None,
    ) -> Chosen | Refused | Unknown:  # fmt: skip
        """As things are now, without asking for anything to be loaded. `policy`: of `picker.NAMES`, empty for the one
        that this router is set to; `avoid`: pods; `owners`: whose adapters may be chosen, None: everybody's."""
        if not self._table.loaded:
            text = "the API server has not been listed yet; ask another replica, or this one again"
            return Refused("table-not-loaded", "", text)
        try:
            entry = find(self._table, name, namespace, owners)
        except (UnknownAdapter, AmbiguousAdapter) as error:
            return not_found(error)
        self.used((entry,))
        endpoint = self._picker.pick(entry, policy, key, avoid, prompt) if entry.endpoints else None
        return _not_loaded(entry) if endpoint is None else Chosen(entry, endpoint, policy or self._picker.rules.policy)

    def used(self, entries: Iterable[Entry]) -> None:
        """Requests go to these adapters: those on demand stay wanted."""
        for entry in entries:
            if entry.on_demand and entry.endpoints and self._asking is not None:
                self._asking.used(entry.key)

    async def decide(
        self, name: str, namespace: str | None = None, policy: str = "", key: str = "",
        avoid: frozenset[str] = NONE, wait_seconds: float = 0.0, prompt: Prompt = NO_PROMPT,
        owners: frozenset[str] | None = None,
    ) -> Outcome:  # fmt: skip
        """As `choose`; what is loaded on demand is asked for, and an endpoint waited for, at most `wait_seconds`.

        Cancel it when nobody waits for the answer any more.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + min(wait_seconds, MOST_WAIT_SECONDS)
        recorded = False
        while True:
            outcome = self.choose(name, namespace, policy, key, avoid, prompt, owners)
            entry = outcome.entry if isinstance(outcome, Refused) else None
            if entry is None or entry.endpoints:
                return outcome
            asking = self._asking if entry.on_demand else None
            if entry.given_up:
                if asking is not None:
                    asking.used(entry.key)  # there may be room or another pod for it later, while it is wanted
                return outcome
            if asking is not None and asking.due(entry.key):
                refused = await _ask(asking, entry, deadline if recorded else None)
                if refused is None:
                    recorded = True
                    continue  # it may have come meanwhile
                if not recorded:
                    return refused
            recorded = asking is not None
            left = deadline - clock()
            if left <= 0 or self._stopping or self.waiting >= MOST_WAITING:
                return outcome if asking is None else Loading(entry, entry.reason, entry.message)
            await self._change(entry.key, left if asking is None else min(left, asking.dedup_seconds))

    async def _change(self, key: Key, seconds: float) -> None:
        """Wait for a change of this adapter's line, at most so long."""
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(future)
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
            waiting.discard(future)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def stop(self) -> None:
        """Answer all that wait as if their time were over."""
        self._stopping = True
        if self._asking is not None:
            self._asking.stop()
        self._wake(list(self._waiting))

    def _follow(self) -> None:
        changes = self._table.since(self._seen)
        self._seen = self._table.version
        if changes is None:  # more than the log holds
            self._wake(list(self._waiting))
            return
        for change in changes:
            line = change.after or change.before
            assert line is not None
            if self._asking is not None and (change.after is None or line.endpoints):
                self._asking.arrived(line.key)
            if line.key in self._waiting:
                self._wake([line.key])

    def _wake(self, keys: list[Key]) -> None:
        for key in keys:
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(None)


async def _ask(asking: UsageRecorder, entry: Entry, until: float | None) -> Refused | None:
    """Have it recorded, by a time of the loop's clock; None if it is."""
    try:
        async with asyncio.timeout_at(until):
            await asking.ask(entry.key)
    except NotAccepted as error:
        return Refused(error.kind, error.reason, str(error), entry)
    except TimeoutError:
        return Refused("not-recorded", "ApiServerAway", "the API server has not answered in time", entry)
    return None


def not_found(error: UnknownAdapter | AmbiguousAdapter) -> Unknown:
    """As an outcome."""
    if isinstance(error, AmbiguousAdapter):
        return Unknown(str(error), namespaces=error.namespaces)
    return Unknown(str(error), near=error.near)


def _not_loaded(entry: Entry) -> Refused:
    reason, why = entry.reason, entry.message
    if entry.endpoints:
        reason, why = "AllAvoided", "all pods that answer for it are among those to avoid"
    return Refused("not-loaded", reason, f"no pod takes requests for adapter {entry.name} now: {why or reason}", entry)
