"""The record of who was asked for: one ConfigMap that routers write and the operator reads. Pure.

It has one key per adapter, so that routers that merge their keys into it never get into each other's way, and an
operator that starts anew knows of everything that was accepted before. Adapters with `loadOnStartup: false` are loaded
by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from lora_operator.artifacts.names import InvalidAdapterName, valid_adapter_name

Name = tuple[str, str]  # namespace and public name of an adapter

CONFIG_MAP = "lora-operator-requests"
# An API server takes 1 MiB of values and, with all keys and who wrote them (80 bytes each), requests of 1.5 MiB.
MOST_ENTRIES = 8000
MOST_BYTES = 700_000
KEY_LENGTH = 32
REMEMBERED_SECONDS = 7 * 86400.0

_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_LONGEST_VALUE = 512
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Use:
    """When adapters were last asked for, or used, as far as that is known: `last`, in seconds since the epoch, as is
    `now`. For so many seconds that makes an adapter on demand wanted."""

    last: Mapping[Name, float]
    now: float
    seconds: float

    def wants(self, name: Name) -> bool:
        """A time that has yet to come, by a clock that is wrong, counts no longer than one in the past."""
        at = self.last.get(name)
        return at is not None and abs(self.now - at) <= self.seconds

    def last_used(self, name: Name) -> int:
        """Whole seconds since the epoch, not after `now`; 0 if nothing is known of it."""
        return int(min(self.last.get(name, 0.0), self.now))


NO_USE = Use(MappingProxyType({}), 0.0, 0.0)


def key_of(namespace: str, name: str) -> str:
    """The key of an adapter in the ConfigMap: names may have more characters than keys allow."""
    return hashlib.sha256(f"{namespace}/{name}".encode()).hexdigest()[:KEY_LENGTH]


def entry_of(namespace: str, name: str, at: datetime) -> tuple[str, str]:
    """(key, value) that say that this adapter was asked for at this time, which has a time zone; whole seconds."""
    moment = at.astimezone(UTC).strftime(_MOMENT)
    return key_of(namespace, name), json.dumps(
        {"namespace": namespace, "name": name, "at": moment}, separators=(",", ":")
    )


def fits(data: Mapping[str, str]) -> bool:
    """Whether one ConfigMap may have these entries; who would write more has to refuse."""
    return len(data) <= MOST_ENTRIES and sum(map(len, data.values())) <= MOST_BYTES


def read_entries(data: Mapping[str, object] | None) -> tuple[dict[Name, datetime], dict[str, str]]:
    """What a ConfigMap's `data` says: when each adapter was last asked for, and by key what is wrong with the rest."""
    found: dict[Name, datetime] = {}
    problems: dict[str, str] = {}
    for key, value in (data or {}).items():
        try:
            name, at = _read(key, value)
        except ValueError as error:
            problems[key] = f"key {key[:_SHOWN]!r}: {error}"
        else:
            found[name] = at
    return found, problems


def outdated(
    data: Mapping[str, str], asked: Mapping[Name, float], known: Container[Name], seconds: float, now: float
) -> list[str]:
    """The keys that may be removed; `asked` is what makes sense of `data`, in seconds since the epoch, as is `now`.

    For so many seconds a record counts. It stays longer, for the order in which adapters give way, where the adapter is
    known and the records do not become too many. What makes no sense goes, and so does a time that has yet to come.
    """
    crowded = 2 * len(data) > MOST_ENTRIES or 2 * sum(map(len, data.values())) > MOST_BYTES
    stays = {
        key_of(*name)
        for name, at in asked.items()
        if abs(now - at) <= seconds or (name in known and not crowded and 0 <= now - at <= REMEMBERED_SECONDS)
    }
    return [key for key in data if key not in stays]


def _read(key: str, value: object) -> tuple[Name, datetime]:
    if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
        raise ValueError(f"its value is not a text of at most {_LONGEST_VALUE} characters")
    try:
        entry = json.loads(value)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise ValueError('its value is not a JSON object like {"namespace": "…", "name": "…", "at": "…"}')
    namespace, name, at = (entry.get(member) for member in ("namespace", "name", "at"))
    if not isinstance(namespace, str) or _NAMESPACE.fullmatch(namespace) is None:
        raise ValueError("its namespace is not one of Kubernetes")
    if not isinstance(name, str):
        raise ValueError("its name is not a text")
    try:
        valid_adapter_name(name)
    except InvalidAdapterName as error:
        raise ValueError(str(error)) from None
    if key != key_of(namespace, name):
        raise ValueError(f"it is not the key of adapter {name!r} in namespace {namespace!r}")
    try:
        moment = datetime.strptime(str(at), _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("its time is not like 2026-11-21T17:50:00Z") from None
    return (namespace, name), moment
