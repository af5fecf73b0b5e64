"""What routers ask of the table. Pure, and usable without the server."""

from __future__ import annotations

from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.near_names import near_names, owned
from lora_operator.router.table import RoutingTable


class RoutingError(LookupError):
    """No one adapter is meant by a name.

    RoutingError
    ├── UnknownAdapter    nobody has heard of it; `near` are names that are like it
    └── AmbiguousAdapter  several namespaces have one; `namespaces` says which
    """


class UnknownAdapter(RoutingError):
    """`near`: adapters of similar names."""

    def __init__(self, name: str, namespace: str | None, near: tuple[str, ...]) -> None:
        where = f" in namespace {namespace}" if namespace else ""
        hint = f"; did you mean {', '.join(near)}?" if near else "; GET /v1/adapters lists those that there are"
        super().__init__(f"adapter {name} is not known{where}{hint}")
        self.near = near


class AmbiguousAdapter(RoutingError):
    """`namespaces`: those that have an adapter of this name."""

    def __init__(self, name: str, namespaces: tuple[str, ...]) -> None:
        super().__init__(f"several namespaces have an adapter {name}: {', '.join(namespaces)}; say which is meant")
        self.namespaces = namespaces


def list_available_adapters(
    table: RoutingTable, base_model: str | None = None, *, namespace: str | None = None
) -> tuple[Entry, ...]:
    """The adapters of a base model (None: of all) that at least one pod answers for, by namespace and name."""
    return tuple(entry for entry in table.after() if entry.endpoints and selected(entry, base_model, namespace))


def get_pods_for_adapter(table: RoutingTable, name: str, *, namespace: str | None = None) -> tuple[Endpoint, ...]:
    """The pods that answer for it; none if it is known and not loaded. Raises UnknownAdapter, AmbiguousAdapter."""
    return find(table, name, namespace).endpoints


def selected(entry: Entry, base_model: str | None, namespace: str | None) -> bool:
    """Whether it is of this base model and namespace; None is any."""
    return (base_model is None or entry.base_model == base_model) and (
        namespace is None or entry.namespace == namespace
    )


def find(table: RoutingTable, name: str, namespace: str | None = None, owners: frozenset[str] | None = None) -> Entry:
    """The one adapter of this name; without a namespace, only if one namespace has it.

    Where `owners` are given, adapters of others are as if they were not there.

    Raises:
        UnknownAdapter, AmbiguousAdapter
    """
    if namespace is not None:
        entry = table.get(namespace, name)
        if entry is not None and owned(entry, owners):
            return entry
        raise UnknownAdapter(name, namespace, near_names(table, name, namespace, owners))
    entries = [entry for entry in table.named(name) if owned(entry, owners)]
    if len(entries) == 1:
        return entries[0]
    if entries:
        raise AmbiguousAdapter(name, tuple(sorted(entry.namespace for entry in entries)))
    raise UnknownAdapter(name, None, near_names(table, name, owners=owners))
