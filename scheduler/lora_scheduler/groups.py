"""Which pods an adapter may be on as far as namespace, base model and selector say, kept up to date pod by pod."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from operator import attrgetter

from lora_scheduler.allotment import Group
from lora_scheduler.ledger import PodLedger, has_valid_limits
from lora_scheduler.model import Adapter, Pod, ReplicaPolicy, Selector
from lora_scheduler.selectors import matches

_key = attrgetter("key")


class Groups:
    """All groups that some adapter belongs to, found by base model first: most pods and adapters have little to do with
    each other, and selectors need not be asked to know it."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[tuple[str, Selector], Group]] = {}
        self._pods: dict[str, Labelled] = {}  # by base model

    def join(self, adapter: Adapter) -> Group:
        """The group of a new adapter."""
        groups = self._by_model.setdefault(adapter.base_model, {})
        kind = (adapter.namespace, adapter.selector)
        group = groups.get(kind)
        if group is None:
            pods = self._pods.get(adapter.base_model)
            found = pods.selected(*kind) if pods is not None else []
            group = groups[kind] = Group(
                {ledger.key for ledger in found},
                [ledger for ledger in found if ledger.sends],
                [ledger for ledger in found if ledger.target],
            )
        group.size += 1
        if adapter.replica_policy is ReplicaPolicy.ALL_PODS:
            group.followers.add(adapter.key)
        return group

    def leave(self, adapter: Adapter) -> None:
        """An adapter that had joined is no more."""
        groups = self._by_model[adapter.base_model]
        group = groups[adapter.namespace, adapter.selector]
        group.size -= 1
        group.followers.discard(adapter.key)
        group.ceilings.pop(adapter.key, None)
        if not group.size:
            del groups[adapter.namespace, adapter.selector]
            if not groups:
                del self._by_model[adapter.base_model]

    def add(self, ledger: PodLedger) -> set[str]:
        """A new pod; the keys of the adapters whose number of replicas it may change."""
        followers: set[str] = set()
        self._pods.setdefault(ledger.pod.base_model, Labelled()).add(ledger)
        for kind, group in self._by_model.get(ledger.pod.base_model, {}).items():
            if selects(*kind, ledger.pod):
                followers |= group.changed(len(group.matching))
                group.matching.add(ledger.key)
                if ledger.sends:
                    insert(group.ready, ledger)
                if ledger.target:
                    insert(group.targets, ledger)
        return followers

    def discard(self, ledger: PodLedger) -> set[str]:
        """A pod is no more, or no longer what it was; the keys of the adapters whose number of replicas that may
        change.

        To be called while the account still says what the pod was.
        """
        followers: set[str] = set()
        pods = self._pods[ledger.pod.base_model]
        pods.discard(ledger)
        if not pods.pods:
            del self._pods[ledger.pod.base_model]
        for group in self._by_model.get(ledger.pod.base_model, {}).values():
            if ledger.key in group.matching:
                group.matching.remove(ledger.key)
                if ledger.sends:
                    remove(group.ready, ledger)
                if ledger.target:
                    remove(group.targets, ledger)
                followers |= group.changed(len(group.matching))
        return followers


class Labelled:
    """The pods of one base model by their labels: a selector needs not be asked about each of them."""

    def __init__(self) -> None:
        self.pods: list[PodLedger] = []  # by key
        self._values: dict[str, dict[str, set[PodLedger]]] = {}  # by label and its value

    def add(self, ledger: PodLedger) -> None:
        """A pod as it is now."""
        insert(self.pods, ledger)
        for label, value in ledger.pod.labels.items():
            self._values.setdefault(label, {}).setdefault(value, set()).add(ledger)

    def discard(self, ledger: PodLedger) -> None:
        """A pod that had been added, and is still what it was then."""
        remove(self.pods, ledger)
        for label, value in ledger.pod.labels.items():
            values = self._values[label]
            values[value].remove(ledger)
            if not values[value]:
                del values[value]
                if not values:
                    del self._values[label]

    def selected(self, namespace: str, selector: Selector) -> list[PodLedger]:
        """Those that `selects` finds, by key."""
        found: set[PodLedger] | None = None
        excluded: set[PodLedger] = set()
        for label, value in selector.match_labels:
            found = _both(found, self._with(label, (value,)))
        for requirement in selector.match_expressions:
            among = requirement.values if requirement.operator in ("In", "NotIn") else None
            some = self._with(requirement.key, among)
            if requirement.operator in ("In", "Exists"):
                found = _both(found, some)
            else:
                excluded |= some
        pods: Iterable[PodLedger] = self.pods if found is None else sorted(found, key=_key)
        if excluded:
            pods = [ledger for ledger in pods if ledger not in excluded]
        if namespace:
            pods = [ledger for ledger in pods if ledger.pod.namespace in (namespace, "")]
        return list(pods)

    def _with(self, label: str, values: Iterable[str] | None) -> set[PodLedger]:
        """The pods that have the label with one of these values; with any, for None."""
        known = self._values.get(label, {})
        return set().union(*known.values() if values is None else [known.get(value, ()) for value in values])


def _both(some: set[PodLedger] | None, others: set[PodLedger]) -> set[PodLedger]:
    return others if some is None else some & others


def selects(namespace: str, selector: Selector, pod: Pod) -> bool:
    """Whether adapters of this namespace and selector go with the pod, their base model aside: what filters.DECLARED
    says with reasons. An empty namespace, of either, goes with every namespace."""
    return (not namespace or not pod.namespace or namespace == pod.namespace) and matches(selector, pod.labels)


def alike(old: Pod, new: Pod) -> bool:
    """Whether both are in the same groups, and on the same lists of them."""
    return (
        old.base_model == new.base_model
        and old.namespace == new.namespace
        and old.ready == new.ready
        and old.draining == new.draining
        and old.labels == new.labels
        and old.node == new.node
        and old.node_labels == new.node_labels
        and has_valid_limits(old) == has_valid_limits(new)
    )


def of_one_group(old: Adapter, new: Adapter) -> bool:
    """Whether both belong to the same group, and follow it in the same way."""
    return (
        old.namespace == new.namespace
        and old.base_model == new.base_model
        and old.selector == new.selector
        and old.replica_policy == new.replica_policy
    )


def insert(ledgers: list[PodLedger], ledger: PodLedger) -> None:
    """Into a list that is sorted by key."""
    ledgers.insert(bisect_left(ledgers, ledger.key, key=_key), ledger)


def remove(ledgers: list[PodLedger], ledger: PodLedger) -> None:
    """From a list that is sorted by key, and has it."""
    del ledgers[bisect_left(ledgers, ledger.key, key=_key)]
