"""Each line of the table as JSON, written once for all who ask: lists, pods, snapshots and changes are made of them."""

from __future__ import annotations

import json
from typing import Any

from lora_operator.router.entries import Entry
from lora_operator.router.table import Key, RoutingTable
from lora_operator.router.wire import adapter_json


class Lines:
    """Keeps what was asked for, while it is in the table."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._written: dict[Key, tuple[Entry, bytes]] = {}
        self._seen = table.version
        table.listen(self._forget)

    def of(self, entry: Entry) -> bytes:
        """The model `Adapter`. Of an entry that the table no longer has too."""
        known = self._written.get(entry.key)
        if known is not None and known[0] is entry:
            return known[1]
        data = dumped(adapter_json(entry))
        if self._table.get(*entry.key) is entry:
            self._written[entry.key] = entry, data
        return data

    def _forget(self) -> None:
        changes = self._table.since(self._seen)
        self._seen = self._table.version
        if changes is None:
            self._written.clear()
            return
        for change in changes:
            if change.before is not None:
                self._written.pop(change.before.key, None)


def dumped(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def with_member(body: dict[str, Any], name: str, value: bytes) -> bytes:
    """`body` with one more member, whose value is JSON already."""
    return dumped(body)[:-1] + b',"' + name.encode() + b'":' + value + b"}"
