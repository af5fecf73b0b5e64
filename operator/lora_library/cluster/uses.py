"""Reads when adapters were used last, from the record that routers and gateways keep for the operator.

Requests that go to engines past them are in no record, and how many there were is in none either.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from lora_library.catalogue.usage import note_uses
from lora_library.database import Database
from lora_operator.api.usage_record import CONFIG_MAP, read_entries
from lora_operator.kube.client import Kube, KubeError

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
AGAIN_SECONDS = 60.0  # where it cannot be read


class Uses:
    """`namespace` is that of the adapters, `record_namespace` that of the ConfigMap."""

    def __init__(
        self, kube: Kube, database: Database, namespace: str, record_namespace: str,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._kube, self._database = kube, database
        self._namespace, self._record_namespace = namespace, record_namespace
        self._clock = clock
        self._seen: dict[str, float] = {}
        self._said = ""
        self.known = False  # whether uses are seen at all

    async def run(self) -> None:
        """For ever."""
        while True:
            read = await self.look()
            await asyncio.sleep(PERIOD_SECONDS if read else AGAIN_SECONDS)

    async def look(self) -> bool:
        """Whether the record could be read and what is new in it was taken in."""
        try:
            body = await self._kube.config_map(self._record_namespace, CONFIG_MAP)
            found, _ = read_entries(body.get("data"))
            uses = {name: at.timestamp() for (where, name), at in found.items() if where == self._namespace}
            await note_uses(
                self._database, {name: at for name, at in uses.items() if self._seen.get(name) != at}, self._clock()
            )
        except Exception as error:  # the library goes on without
            self.known = False
            self._tell(error)
            return False
        self._seen, self.known, self._said = uses, True, ""
        return True

    def _tell(self, error: Exception) -> None:
        hint = "; it needs the right to get it" if isinstance(error, KubeError) and error.status == 403 else ""
        text = f"{type(error).__name__}: {error}{hint}"
        if text != self._said:
            self._said = text
            log.warning(
                "ConfigMap %s/%s does not say when adapters are used: %s", self._record_namespace, CONFIG_MAP, text
            )
