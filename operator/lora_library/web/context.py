"""What handlers work with, and who asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from lora_library.catalogue import changing
from lora_library.cluster.adapters import Adapters
from lora_library.cluster.cache_stats import CacheStats
from lora_library.cluster.resources import Shown, shown
from lora_library.cluster.uses import Uses
from lora_library.counting import UploadCounts
from lora_library.database import Database
from lora_library.identity.verifying import Identity
from lora_library.metrics import LibraryMetrics
from lora_library.model import ACTIVE, Limits, Lora, Principal
from lora_library.names import resource_name
from lora_library.problems import Problem
from lora_library.receiving.pace import Pace
from lora_library.stores.base import Store
from lora_library.uploads import Uploads
from lora_library.web.sending import Downloads

NOTED_SECONDS = 3600.0
MOST_NOTED = 10_000


@dataclass(frozen=True)
class Library:
    """The service's parts, as its API uses them."""

    database: Database
    store: Store
    uploads: Uploads
    identity: Identity
    limits: Limits
    metrics: LibraryMetrics
    counts: UploadCounts
    adapters: Adapters | None = None
    base_models: tuple[str, ...] = ()  # that adapters may be for; none: any
    uses: Uses | None = None
    gateway: str = ""  # where people call adapters, for examples
    clock: Callable[[], float] = time.time
    downloads: Downloads = field(default_factory=lambda: Downloads(64, 8, Pace()))
    public_url: str = ""
    cache_stats: CacheStats | None = None
    _noted: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)

    async def note_download(self, principal: Principal, lora: Lora | None, file: str) -> None:
        """In the audit log, once an hour for each who reads an adapter: else whoever reads in a loop fills it."""
        if lora is None:
            return
        now, key = self.clock(), (principal.subject, lora.id)
        if now - self._noted.get(key, -1e12) < NOTED_SECONDS:
            return
        await changing.note_download(self.database, principal, lora, file, now)
        self._noted[key] = now
        while len(self._noted) > MOST_NOTED:
            self._noted.popitem(last=False)

    async def shown(self, lora: Lora) -> Shown:
        """What the operator says of it."""
        if self.adapters is None or lora.deleted_at is not None or lora.state != ACTIVE:
            return Shown()
        return shown(await self.adapters.get(resource_name(lora.owner, lora.base_model, lora.part)), lora.engine_name)


async def library_of(request: Request) -> Library:
    """Asynchronous, though it waits for nothing: what is not would be run in a thread."""
    return cast(Library, request.app.state.library)


async def principal_of(request: Request) -> Principal:
    return await (await library_of(request)).identity.of(request.headers.get("Authorization"))


async def admin_of(request: Request) -> Principal:
    principal = await principal_of(request)
    if not principal.admin:
        raise Problem("FORBIDDEN", "only administrators may do this")
    return principal


With = Annotated[Library, Depends(library_of)]
Asking = Annotated[Principal, Depends(principal_of)]
Admin = Annotated[Principal, Depends(admin_of)]
