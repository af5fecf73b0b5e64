"""What a client may know before anything else: who its token is, and what it may send."""

from __future__ import annotations

from fastapi import APIRouter

from lora_library.web.answers import Answer
from lora_library.web.context import Asking, With

ROUTES = APIRouter()


class Me(Answer):
    subject: str
    groups: list[str]
    admin: bool
    upload_bytes: int
    """The largest upload."""
    versions: int
    """How many of each adapter are kept."""
    restore_days: float
    uses_known: bool
    """Whether it is seen that adapters are used: where not, none that has no last use is unused for that."""
    base_models: list[str]
    """Those that adapters may be for; empty: whichever they name."""
    gateway: str
    """Where adapters are called, for examples; empty where the library was not told."""


@ROUTES.get("/me")
async def me(library: With, principal: Asking) -> Me:
    """Who you are, and what holds for everybody."""
    limits = library.limits
    return Me(
        subject=principal.subject, groups=sorted(principal.groups), admin=principal.admin,
        upload_bytes=limits.upload_bytes, versions=limits.versions_kept, restore_days=limits.restore_seconds / 86400,
        uses_known=library.uses is not None and library.uses.known,
        base_models=list(library.base_models), gateway=library.gateway,
    )  # fmt: skip
