"""All that is exported, following one routing table: what changes there is looked at, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from lora_operator.exports.own_objects import OwnObjects
from lora_operator.router.entries import Entry
from lora_operator.router.table import RoutingTable


class Export(Protocol):
    """One thing that is made of each line of the table."""

    @property
    def objects(self) -> tuple[OwnObjects, ...]:
        """What it consists of."""

    def look(self, before: Entry | None, after: Entry | None) -> None:
        """A line was the one and is the other."""

    async def flush(self, pod: str, name: str) -> None:
        """Wait until nothing says any more that this pod answers for this adapter. Raises KubeError."""


class Exports:
    """Let `run` go on where this process leads: others must not write."""

    def __init__(self, table: RoutingTable, exports: Sequence[Export]) -> None:
        self._table = table
        self._exports = exports
        self._version = 0

    @property
    def _objects(self) -> list[OwnObjects]:
        return [one for export in self._exports for one in export.objects]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._objects:
                group.create_task(one.run(), name=f"watch our {one.kind.plural}")
            self._look_at_all()
            end = self._table.listen(self._news)
            try:
                for one in self._objects:
                    await one.until_synced()
                self._look_at_all()
                await asyncio.Event().wait()
            finally:
                end()

    async def flush(self, pod: str, name: str) -> None:
        """See `Export.flush`."""
        for export in self._exports:
            await export.flush(pod, name)

    def _news(self) -> None:
        changes, self._version = self._table.since(self._version), self._table.version
        if changes is None:
            self._look_at_all()
            return
        for change in changes:
            for export in self._exports:
                export.look(change.before, change.after)

    def _look_at_all(self) -> None:
        self._version = self._table.version
        for entry in self._table.after():
            for export in self._exports:
                export.look(None, entry)
