"""Which pods have the files of which version on their disks, and which others stand on the same nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lora_scheduler.model import Adapter, Pod

Version = tuple[str, str]  # an adapter's name, which version of it


class Disks:
    """All that pods say of their disks, by version. Empty where none says anything, and then nobody is asked."""

    def __init__(self) -> None:
        self._pods: dict[Version, set[str]] = {}
        self._nodes: dict[str, str] = {}  # of the pods whose node is known
        self._on_node: dict[str, set[str]] = {}

    def note(self, old: Pod | None, new: Pod | None) -> None:
        """A pod is no longer what it was."""
        before, after = (frozenset[Version]() if pod is None else pod.stored for pod in (old, new))
        for pod, gone in ((old, before - after), (new, after - before)):
            for version in gone:
                assert pod is not None  # else it had nothing
                holders = self._pods.setdefault(version, set())
                (holders.discard if pod is old else holders.add)(pod.key)
                if not holders:
                    del self._pods[version]
        if old is not None and self._nodes.pop(old.key, None) is not None:
            self._on_node[old.node].discard(old.key)
            if not self._on_node[old.node]:
                del self._on_node[old.node]
        if new is not None and new.node:
            self._nodes[new.key] = new.node
            self._on_node.setdefault(new.node, set()).add(new.key)

    def nearest(self, adapter: Adapter) -> Iterator[Collection[str]]:
        """The pods that have the files of the wanted version, then the others on their nodes: agents may share a disk,
        and not have said so yet. Nothing where no pod has them."""
        holders = self._pods.get((adapter.name, adapter.version))
        if not holders:
            return
        yield holders
        nodes = {self._nodes[pod] for pod in holders if pod in self._nodes}
        yield {pod for node in nodes for pod in self._on_node[node]} - holders
