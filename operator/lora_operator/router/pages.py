"""Lists in pages: a token says after which entry the next page begins, whatever has changed meanwhile."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from lora_operator.router.entries import Entry
from lora_operator.router.queries import selected
from lora_operator.router.table import Key, RoutingTable

DEFAULT_LIMIT = 500


class BadToken(ValueError):
    """A token that was not made here."""


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, and the token of the next page; empty on the last."""

    entries: tuple[Entry, ...]
    token: str


def page_of(
    table: RoutingTable, base_model: str | None, namespace: str | None, *, loaded_only: bool, limit: int, token: str
) -> Page:
    """At most `limit` entries. Raises BadToken."""
    start = _key(token) if token else None
    if start is None and namespace is not None:
        start = (namespace, "")
    found: list[Entry] = []
    for entry in table.after(start):
        if namespace is not None and entry.namespace != namespace:
            if entry.namespace > namespace:
                break
            continue
        if not selected(entry, base_model, namespace) or (loaded_only and not entry.endpoints):
            continue
        if len(found) == limit:
            return Page(tuple(found), _token(found[-1].key))
        found.append(entry)
    return Page(tuple(found), "")


def _token(key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _key(token: str) -> Key:
    try:
        namespace, name = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error) as error:
        raise BadToken("continue is no token of an earlier answer") from error
    if not (isinstance(namespace, str) and isinstance(name, str)):
        raise BadToken("continue is no token of an earlier answer")
    return namespace, name
