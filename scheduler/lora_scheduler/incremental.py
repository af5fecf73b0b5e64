"""Planning again and again for one fleet: what did not change is not worked out anew.

The accounts survive from round to round. A change sets back the accounts that it touches, and those in which the last
round had decided something, to what is really there; the same steps as in any round then go through those that are not
at rest. All others would be passed over by a plan from scratch too: hence both give the very same plan.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from lora_scheduler.allotment import Allotment
from lora_scheduler.errors import InvalidSnapshot, UnknownAdapter
from lora_scheduler.fleet import NOWHERE, Change, Fleet
from lora_scheduler.model import Adapter, Places, Plan, Pod, Policy, Refusal, Snapshot
from lora_scheduler.planner import DEFAULT, Round, decide, plan, plan_of
from lora_scheduler.queries import AdapterStatus, status_of
from lora_scheduler.reasons import reasons
from lora_scheduler.refusals import Refusals
from lora_scheduler.validation import check

T = TypeVar("T", Adapter, Pod)


class Planner:
    """Makes the plans of one fleet; each is what `lora_scheduler.plan` makes of the same snapshot.

    Its time goes with what has changed and with how many adapters are not at rest (lack replicas, are being loaded,
    unloaded, updated or moved), not with the size of the fleet. Not to be shared between threads.

    With `remember`, each plan holds on to the places that the one before has given: it is what `lora_scheduler.plan`
    makes of the same snapshot with those `places`. A snapshot's own are taken for the first plan only.

    Raises InvalidPolicy.
    """

    def __init__(self, policy: Policy = DEFAULT, *, remember: bool = False) -> None:
        self._policy = policy
        self._remember = remember
        self._places = Places(remembered=remember)  # that the next plan holds on to
        self._used: Places | None = None  # those that the last one has held on to
        self._adapters: dict[str, Adapter] = {}
        self._pods: dict[str, Pod] = {}
        self._last: Round | None = None
        self._assignments: dict[str, tuple[str, ...]] = {}
        self._made: Plan | None = None  # the last plan
        self._given: Snapshot | None = None  # where that was made for a whole snapshot
        check(self.snapshot, policy)

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def snapshot(self) -> Snapshot:
        """What the planner takes for the present, with the places that its next plan holds on to."""
        return Snapshot(tuple(self._adapters.values()), tuple(self._pods.values()), self._places)

    def plan(self, snapshot: Snapshot) -> Plan:
        """The plan for a whole snapshot. What is equal to the last one costs little, what is identical almost nothing.

        Raises InvalidSnapshot, and goes on from the snapshot before.
        """
        given, self._given = self._given, None
        places = replace(snapshot.places, remembered=True) if self._remember else snapshot.places
        if (self._used is None or not self._remember) and places != self._places:
            self._detach()
            self._last, self._places = None, places
        elif given is not None:
            new_adapters, new_pods = _in_place(given.adapters, snapshot.adapters), _in_place(given.pods, snapshot.pods)
            if new_adapters is not None and new_pods is not None:
                made = self.update(adapters=new_adapters, pods=new_pods)
                self._given = snapshot
                return made
        adapters = {adapter.key: adapter for adapter in snapshot.adapters}
        pods = {pod.key: pod for pod in snapshot.pods}
        if len(adapters) < len(snapshot.adapters) or len(pods) < len(snapshot.pods):
            check(snapshot, self._policy)  # finds the keys that are there twice
        change = Change(
            _differing(self._adapters, adapters),
            _differing(self._pods, pods),
            self._adapters.keys() - adapters.keys(),
            self._pods.keys() - pods.keys(),
        )
        made = self._next(change, adapters, pods)
        self._given = snapshot
        return made

    def update(
        self,
        *,
        adapters: Sequence[Adapter] = (),
        pods: Sequence[Pod] = (),
        removed_adapters: Collection[str] = (),
        removed_pods: Collection[str] = (),
    ) -> Plan:
        """The plan after a change: these adapters and pods are new or changed, those (by key) are no more.

        Raises InvalidSnapshot, and then takes in nothing of it.
        """
        self._given = None
        if self._last is not None and not removed_adapters and not removed_pods:  # what is as it was is no change
            adapters = [adapter for adapter in adapters if self._adapters.get(adapter.key) != adapter]
            pods = [pod for pod in pods if self._pods.get(pod.key) != pod]
        change = Change(adapters, pods, frozenset(removed_adapters), frozenset(removed_pods))
        return self._next(
            change,
            _changed("adapter", self._adapters, {a.key: a for a in adapters}, change.removed_adapters),
            _changed("pod", self._pods, {p.key: p for p in pods}, change.removed_pods),
        )

    def explain(self, adapter_key: str) -> tuple[Refusal, ...]:
        """As `lora_scheduler.explain`, from what the last plan has worked out. Raises UnknownAdapter."""
        done, allotment, _ = self._known(adapter_key)
        return reasons(allotment, done.fleet, done.steps)

    def get_adapter_status(self, adapter_key: str) -> AdapterStatus:
        """As `lora_scheduler.get_adapter_status`, from what the last plan has worked out. Raises UnknownAdapter."""
        done, allotment, made = self._known(adapter_key)
        return status_of(allotment.adapter, made, done.fleet.residents(adapter_key))

    def _known(self, adapter_key: str) -> tuple[Round, Allotment, Plan]:
        if self._last is None or self._made is None or adapter_key not in self._last.fleet.allotments:
            raise UnknownAdapter(
                f"adapter {adapter_key!r} is not in what was planned last; ask for one of its {len(self._adapters)}"
            )
        return self._last, self._last.fleet.allotments[adapter_key], self._made

    def _next(self, change: Change, adapters: dict[str, Adapter], pods: dict[str, Pod]) -> Plan:
        if self._made is not None and not (
            change.adapters or change.pods or change.removed_adapters or change.removed_pods
        ):
            return self._made
        check(Snapshot(tuple(change.adapters), tuple(change.pods)), self._policy)
        self._detach()
        self._adapters, self._pods = adapters, pods
        last, self._last = self._last, None  # whatever breaks this round, the next one begins from scratch
        if last is None:
            fleet, assignments = Fleet(self._policy.hot_share), {}
            change = Change(tuple(adapters.values()), tuple(pods.values()))
        else:
            fleet, assignments = last.fleet, self._assignments
        opened = fleet.apply(change, self._places)
        done = decide(fleet, self._policy)
        self._assignments = _assigned(assignments, done, opened, change.removed_adapters)
        self._made = plan_of(done, self._assignments)
        self._last, self._used = done, self._places
        if self._remember:
            self._places = self._made.places
        return self._made

    def _detach(self) -> None:
        """The accounts go on without the last plan: its reasons are worked out anew if anybody else still has them."""
        made, self._made = self._made, None
        if made is None:
            return
        refusals = weakref.ref(made.refusals)
        del made
        held = refusals()
        if isinstance(held, Refusals):
            then = Snapshot(tuple(self._adapters.values()), tuple(self._pods.values()), self._used or NOWHERE)
            held.detach(partial(_refusals, then, self._policy))


def _assigned(
    before: Mapping[str, tuple[str, ...]], done: Round, opened: Collection[str], removed: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The assignments of all adapters, by key; only those whose account was opened or has changed are looked at."""
    allotments = done.fleet.allotments
    after = dict(before)
    for key in removed:
        del after[key]
    for key in opened:
        after[key] = allotments[key].assigned
    for allotment in done.fleet.stirred:
        after[allotment.adapter.key] = allotment.assigned
    if len(after) + len(removed) > len(before):
        return {key: after[key] for key in sorted(after)}
    return after


def _in_place(old: Sequence[T], new: Sequence[T]) -> list[T] | None:
    """As `_differing`, where both list the same keys in the same order; None where they do not. Most snapshots are the
    last one with a few values replaced: to see that takes a tenth of the time."""
    if len(old) != len(new):
        return None
    pairs = [(was, value) for was, value in zip(old, new, strict=True) if was is not value]
    if any(was.key != value.key for was, value in pairs):
        return None
    return [value for was, value in pairs if was != value]


def _differing(old: Mapping[str, T], new: Mapping[str, T]) -> list[T]:
    """The values that are not what they were under the same key."""
    return [value for key, value in new.items() if (was := old.get(key)) is not value and was != value]


def _changed(kind: str, old: Mapping[str, T], new: Mapping[str, T], removed: Collection[str]) -> dict[str, T]:
    for key in removed:
        if key not in old or key in new:
            why = "changed by the same update" if key in new else "not known"
            raise InvalidSnapshot(
                f"{kind} {key!r} cannot be removed: it is {why}; remove what an earlier call has given"
            )
    after = {**old, **new}
    for key in removed:
        del after[key]
    return after


def _refusals(snapshot: Snapshot, policy: Policy) -> Mapping[str, tuple[Refusal, ...]]:
    return plan(snapshot, policy).refusals
