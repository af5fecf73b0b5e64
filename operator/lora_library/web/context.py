"""What handlers work with, and who asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from lora_library.cluster.adapters import Adapters
from lora_library.cluster.resources import Shown, shown
from lora_library.cluster.uses import Uses
from lora_library.database import Database
from lora_library.identity.verifying import Identity
from lora_library.metrics import LibraryMetrics
from lora_library.model import ACTIVE, Limits, Lora, Principal
from lora_library.names import resource_name
from lora_library.problems import Problem
from lora_library.stores.base import Store
from lora_library.uploads import Uploads


@dataclass(frozen=True)
class Library:
    """The service's parts, as its API uses them."""

    database: Database
    store: Store
    uploads: Uploads
    identity: Identity
    limits: Limits
    metrics: LibraryMetrics
    adapters: Adapters | None = None
    base_models: tuple[str, ...] = ()  # that adapters may be for; none: any
    uses: Uses | None = None
    gateway: str = ""  # where people call adapters, for examples
    clock: Callable[[], float] = time.time

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
