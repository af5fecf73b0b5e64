"""Chooses an endpoint with the policies of the routing library, over an index that follows the table."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_operator.informers.pod_description import takes_part
from lora_operator.informers.records import PodRecord
from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.prefix_affinity import PrefixAffinity
from lora_operator.router.prompt_blocks import NO_PROMPT, Prompt
from lora_operator.router.table import Key, RoutingTable
from lora_operator.router.traffic import STALE_SECONDS
from lora_operator.vllm.client import Endpoint as EngineAddress
from lora_scheduler.rendezvous import weight
from lora_scheduler.routing import (
    POLICIES,
    Answer,
    Candidate,
    Chance,
    Holding,
    Index,
    Picked,
    RoutingRequest,
    Rules,
    explain,
    pick,
)
from lora_scheduler.routing import Endpoint as Pod

HASH = "hash"
WEIGHTED = "weighted"  # the only one whose choice is a score
DEFAULT_RULES = Rules()
NAMES = tuple(sorted({*POLICIES, HASH}))
NONE: frozenset[Any] = frozenset()


@dataclass(slots=True)
class _Held:
    """What a pod answers for: adapter -> its endpoint in the table, and one of the names of its base model."""

    address: str
    base_model: str
    ends: dict[str, Endpoint]


class Picker:
    """Keeps the index in step with the table; what it hands out counts as sent, so that picks spread.

    `pods` tells of a pod by its key how much it can hold. Call `see` when that may have changed: pods that hold nothing
    are in the index as well, so that a policy can say where another replica should go (`spills_wanted` counts that).
    `scored` is called with the score of every weighted pick.
    """

    def __init__(
        self,
        table: RoutingTable,
        chance: Chance | None = None,
        clock: Callable[[], float] = time.monotonic,
        rules: Rules = DEFAULT_RULES,
        prefixes: PrefixAffinity | None = None,
        *,
        pods: Callable[[str], PodRecord | None] = lambda key: None,
        scored: Callable[[float], None] = lambda score: None,
    ) -> None:
        self._table = table
        self._chance: Chance = chance or random.Random()
        self.clock = clock
        self.rules = rules
        self._rules = {name: replace(rules, policy=name) for name in POLICIES}
        self.prefixes = PrefixAffinity() if prefixes is None else prefixes
        self.index = Index(stale_seconds=STALE_SECONDS)
        self._pods = pods
        self._scored = scored
        self.spills_wanted = 0
        self.picked_at = -math.inf  # by the clock; when loads of engines were last of use
        self._held: dict[str, _Held] = {}
        self._uids: dict[str, str] = {}
        self._lives: dict[str, str] = {}
        self._nowhere: set[str] = set()  # adapters that no pod answers for
        self._seen = 0
        table.listen(self._follow)
        self._follow()

    def pick(
        self, entry: Entry, policy: str, key: str, avoid: frozenset[str], prompt: Prompt = NO_PROMPT
    ) -> Endpoint | None:
        """One of the entry's endpoints by a policy of NAMES (empty: that of the rules); None if none is left. `avoid`:
        names of pods.

        Never a pod that does not hold the adapter, however busy those are that do: whoever asks cannot have it loaded.
        """
        if policy == HASH:
            left = [one for one in entry.endpoints if one.pod not in avoid]
            return max(left, key=lambda one: weight(key, one.pod), default=None)
        answer = self.choose(self.request((entry,), avoid=avoid, prompt=prompt), policy)
        if not isinstance(answer, Picked):
            return None
        end = self._held[answer.endpoint.pod].ends[f"{entry.namespace}/{entry.name}"]
        if prompt and self.prefixes.on:
            self.prefixes.sent(entry, end, prompt, self.picked_at)
        return end

    def request(
        self, entries: Sequence[Entry], *, shared: frozenset[Key] = NONE, avoid: frozenset[str] = NONE,
        may_load: bool = False, prompt: Prompt = NO_PROMPT,
    ) -> RoutingRequest:  # fmt: skip
        """All of these adapters on one pod. `shared`: keys of those that are not the tenant's own; `avoid`: names of
        pods in the first one's namespace; `prompt`: of a request for one adapter."""
        namespace = entries[0].namespace
        cached = None
        if prompt and self.prefixes.on and len(entries[0].endpoints) > 1:
            cached = self.prefixes.saved(entries[0], prompt, self.clock())
        return RoutingRequest(
            tuple([f"{entry.namespace}/{entry.name}" for entry in entries]), may_load=may_load,
            shared=frozenset("/".join(key) for key in shared) if shared else NONE,
            avoid=frozenset(f"{namespace}/{pod}" for pod in avoid) if avoid else NONE, cached=cached,
        )  # fmt: skip

    def choose(self, ask: RoutingRequest, policy: str = "") -> Answer:
        """By a policy of the library; what is picked counts as sent."""
        now = self.picked_at = self.clock()
        rules = self._rules[policy] if policy else self.rules
        answer = pick(self.index, ask, now=now, chance=self._chance, rules=rules)
        if isinstance(answer, Picked):
            self.spills_wanted += answer.spill is not None
            self.index.sent(answer.endpoint.pod, now=now)
            if rules.policy == WEIGHTED:
                self._scored(answer.score)
        return answer

    def explain(self, ask: RoutingRequest) -> tuple[Candidate, ...]:
        """What the pods score now that hold some of it; nothing counts as sent."""
        self.picked_at = self.clock()
        return explain(self.index, ask, now=self.picked_at, weights=self.rules.weights)

    def see(self, keys: Iterable[str]) -> None:
        """These pods may have changed, come or gone."""
        now = self.clock()
        for key in keys:
            self._put(key, now)

    def _follow(self) -> None:
        """Take over what changed in the table since the last time."""
        changes = self._table.since(self._seen)
        touched: set[str] = set()
        if changes is None:  # more than the log holds
            touched |= self._held.keys()
            self._held = {}
            for adapter in [*self._nowhere]:
                self._forget(adapter)
            for entry in self._table.after():
                touched |= self._hold(entry)
        else:
            for change in changes:
                if change.before is not None:
                    touched |= self._drop(change.before)
                if change.after is not None:
                    touched |= self._hold(change.after)
        self._seen = self._table.version
        self.see(sorted(touched))

    def _put(self, key: str, now: float) -> None:
        record, held = self._pods(key), self._held.get(key)
        if held is not None and not held.ends:
            del self._held[key]
            held = None
        if record is None or self._lives.get(key, _life(record)) != _life(record):
            self.prefixes.forget(key)
            self._lives.pop(key, None)
        if record is None or self._uids.get(key, record.uid) != record.uid:
            self._uids.pop(key, None)
            self.index.remove(key, now=now)  # another pod of this name must not inherit the load of the former one
        if held is None and (record is None or not _has_room(record)):
            self.index.remove(key, now=now)
            return
        ends = held.ends if held is not None else {}
        address = held.address if held is not None else ""
        base_model = held.base_model if held is not None else ""
        slots, gpu_slots = len(ends), 0
        if record is not None:
            self._uids[key], self._lives[key] = record.uid, _life(record)
            pod = record.pod
            slots, gpu_slots = max(slots, pod.max_cpu_loras), pod.max_loras
            address = address or str(EngineAddress(pod.ip or "", pod.port))
            if pod.base_models:
                base_model = f"{pod.namespace}/{pod.base_models[0]}"
        holdings = tuple(Holding(adapter, ends[adapter].engine_name) for adapter in sorted(ends))
        self.index.put(Pod(key, address, base_model, holdings, host_slots=slots, gpu_slots=gpu_slots), now=now)

    def _hold(self, entry: Entry) -> set[str]:
        adapter = f"{entry.namespace}/{entry.name}"
        if entry.endpoints:
            self._forget(adapter)  # its pods say best which base model it is for: one model may have several names
        else:
            self._nowhere.add(adapter)
            self.index.know(adapter, f"{entry.namespace}/{entry.base_model}")
        touched = set()
        for one in entry.endpoints:
            key = f"{entry.namespace}/{one.pod}"
            held = self._held.get(key)
            if held is None:
                held = self._held[key] = _Held(one.address, f"{entry.namespace}/{entry.base_model}", {})
            held.address = one.address
            held.ends[adapter] = one
            touched.add(key)
        return touched

    def _drop(self, entry: Entry) -> set[str]:
        adapter = f"{entry.namespace}/{entry.name}"
        self._forget(adapter)
        touched = set()
        for one in entry.endpoints:
            key = f"{entry.namespace}/{one.pod}"
            held = self._held.get(key)
            if held is not None:
                held.ends.pop(adapter, None)
                touched.add(key)
        return touched

    def _forget(self, adapter: str) -> None:
        self._nowhere.discard(adapter)
        self.index.forget(adapter)


def _life(record: PodRecord) -> str:
    """Of the engine: what it has computed is gone with its container."""
    return f"{record.uid}/{record.pod.container_mark}"


def _has_room(record: PodRecord) -> bool:
    """Whether a pod that holds nothing could be given an adapter now."""
    pod = record.pod
    return takes_part(pod) and pod.ready and not pod.terminating and bool(pod.ip and pod.base_models)
