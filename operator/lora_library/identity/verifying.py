"""Turns a request's bearer token into a principal. A token is looked at by each way that is configured, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lora_library.model import Principal
from lora_library.problems import Problem

TOKEN_LENGTH = 16_384
SUBJECT_LENGTH = 500


class Verifier(Protocol):
    async def verify(self, token: str) -> Principal | None:
        """None: not a good token, as far as this verifier knows. Raises Problem (IDENTITY_UNAVAILABLE)."""
        ...


class Identity:
    """All ways, and who administers."""

    def __init__(self, verifiers: Sequence[Verifier], admin_groups: frozenset[str] = frozenset()) -> None:
        self._verifiers = verifiers
        self._admin_groups = admin_groups

    async def of(self, authorization: str | None) -> Principal:
        """Of an Authorization header. Raises Problem: UNAUTHENTICATED, IDENTITY_UNAVAILABLE."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH:
            raise Problem("UNAUTHENTICATED", "send a token: Authorization: Bearer TOKEN")
        trouble: Problem | None = None
        for verifier in self._verifiers:
            try:
                found = await verifier.verify(token)
            except Problem as problem:
                trouble = problem
                continue
            if found is not None:
                return self._principal(found)
        if trouble is not None:
            raise trouble
        raise Problem("UNAUTHENTICATED", "the token is unknown, has expired, or is for somebody else")

    def _principal(self, found: Principal) -> Principal:
        if not 0 < len(found.subject) <= SUBJECT_LENGTH or not found.subject.isprintable():
            raise Problem("UNAUTHENTICATED", f"the token's subject is no name of 1 to {SUBJECT_LENGTH} characters")
        admin = found.admin or bool(found.groups & self._admin_groups)
        return Principal(found.subject, found.groups, admin)
