"""GET /v1/models and /v1/models/{id}: what can be asked for through the gateway, in OpenAI's shape.

One engine knows the adapters that it holds itself. The table knows all of them, those on demand too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from lora_operator.picking.answers import Answer
from lora_operator.picking.automatic import Automatic
from lora_operator.picking.base_models import Bases
from lora_operator.picking.question import Question
from lora_operator.router.entries import Entry
from lora_operator.router.lines import dumped
from lora_operator.router.near_names import owned
from lora_operator.router.table import RoutingTable

PATH = "/v1/models"
KEPT = 32  # lists, of as many namespaces and owners


def asked_model(path: str) -> str | None:
    """The id in the path of a request for models; empty: all of them; None: it is for something else."""
    plain = path.partition("?")[0]
    if plain.rstrip("/") == PATH:
        return ""
    return unquote(plain.removeprefix(f"{PATH}/")) if plain.startswith(f"{PATH}/") else None


class ModelList:
    """Over one table, and the pods that serve base models."""

    def __init__(self, table: RoutingTable, bases: Bases, automatic: Automatic) -> None:
        self._automatic = automatic
        self._table = table
        self._bases = bases
        self._created = int(time.time())
        self._written: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()

    def all(self, namespace: str, owners: frozenset[str] | None) -> Answer:
        """Base models, and the adapters of these owners (None: everybody's) that a request could be answered by."""
        bases = self._bases.names(namespace)
        key = (self._table.tag, bases, namespace, owners)
        written = self._written.get(key)
        if written is None:
            entries = [*self._entries(namespace, owners)]
            adapters = {entry.name for entry in entries}
            models = [self._base(name) for name in bases if name not in adapters]
            models += [self._adapter(entry) for entry in entries]
            if self._automatic.offered(namespace, owners):
                models.append(self._chosen())
            written = self._written[key] = dumped({"object": "list", "data": models})
            if len(self._written) > KEPT:
                self._written.popitem(last=False)
        self._written.move_to_end(key)
        return Answer("models", written)

    def adapter(self, entry: Entry) -> Answer:
        """One of them, also where no pod can have it: then with the reason."""
        return Answer("models", dumped(self._adapter(entry)))

    def other(self, question: Question) -> Answer | None:
        """What is no adapter and can be asked for all the same: a base model that a pod serves, or a choice."""
        if question.model in self._bases.names(question.namespace):
            return Answer("models", dumped(self._base(question.model)))
        if question.model == self._automatic.name and self._automatic.offered(question.namespace, question.owners):
            return Answer("models", dumped(self._chosen()))
        return None

    def _entries(self, namespace: str, owners: frozenset[str] | None) -> Iterator[Entry]:
        for entry in self._table.after((namespace, "") if namespace else None):
            if namespace and entry.namespace != namespace:
                return
            if owned(entry, owners) and (entry.endpoints or not entry.given_up):
                yield entry

    def _adapter(self, entry: Entry) -> dict[str, Any]:
        model = self._model(entry.name, entry.owner or entry.namespace, entry.base_model or None)
        model |= {"namespace": entry.namespace, "on_demand": entry.on_demand, "loaded": bool(entry.endpoints)}
        return model if entry.endpoints else model | {"reason": entry.reason or "NotLoaded"}

    def _base(self, name: str) -> dict[str, Any]:
        return self._model(name, "vllm", None) | {"on_demand": False, "loaded": True}

    def _chosen(self) -> dict[str, Any]:
        return self._model(self._automatic.name, "lora-operator", None) | {"on_demand": False, "loaded": True}

    def _model(self, name: str, owner: str, parent: str | None) -> dict[str, Any]:
        head = {"id": name, "object": "model", "created": self._created, "owned_by": owner}
        return head | {"root": name, "parent": parent, "permission": []}
