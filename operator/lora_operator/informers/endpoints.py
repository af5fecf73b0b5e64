"""A LoraEndpoint, reduced to what we use: what one pod holds according to what was published about it.

Fields come from outside and may be anything; what cannot be read of one counts as not said.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from lora_operator.api.endpoint import KIND, Scheme
from lora_operator.api.well_known import GROUP, VERSION

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeldAdapter:
    """One adapter that a pod answers for under `engine_name`. `resource` is the LoraAdapter's name, `version` the
    fingerprint, empty where it is not known."""

    name: str
    engine_name: str
    version: str
    resource: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a LoraEndpoint says. `adapters` are sorted by name, each name once; `pod_uid` is the owner's."""

    pod_uid: str
    address: str
    container: str
    base_models: tuple[str, ...]
    adapters: tuple[HeldAdapter, ...]
    scheme: str = Scheme.HTTP.value

    def holds(self, name: str) -> HeldAdapter | None:
        """The adapter of this public name."""
        place = bisect_left(self.adapters, name, key=attrgetter("name"))
        found = self.adapters[place] if place < len(self.adapters) else None
        return found if found is not None and found.name == name else None


@dataclass(frozen=True, slots=True)
class PodEndpoint:
    """One LoraEndpoint; `key` is that of its pod as well. Made to be kept in a `Cache`."""

    key: str
    uid: str
    version: int
    said: Contents


class Shared:
    """Makes equal entries one object: a hundred pods hold the same thousand adapters."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._known: dict[tuple[str, str, str, str], HeldAdapter] = {}

    def of(self, name: str, engine_name: str, version: str, resource: str) -> HeldAdapter:
        """The one entry that says this."""
        key = (name, engine_name, version, resource)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._most:
                self._known.clear()  # what is in use is made once more
            found = self._known[key] = HeldAdapter(*key)
        return found


def contents_of(body: Json, shared: Shared) -> Contents:
    """What an object of the API server says. Never raises."""
    owners = _list(_map(body.get("metadata")).get("ownerReferences"))
    pod_uid = next((str(one.get("uid")) for one in map(_map, owners) if one.get("kind") == "Pod"), "")
    engine_names = _map(body.get("engineNames"))
    held: dict[str, HeldAdapter] = {}
    for name, origin in _map(body.get("adapters")).items():
        resource, _, version = _text(origin).partition("/")
        engine_name = _text(engine_names.get(name)) or name
        held[name] = shared.of(name, engine_name, version, resource or name)
    return Contents(
        pod_uid=pod_uid,
        address=_text(body.get("address")),
        container=_text(body.get("container")),
        base_models=tuple(filter(None, map(_text, _list(body.get("baseModels"))))),
        adapters=tuple(held[name] for name in sorted(held)),
        scheme=_text(body.get("scheme")) or Scheme.HTTP.value,
    )


def body_of(key: str, said: Contents) -> dict[str, Any]:
    """The object that says so, for server-side apply: `contents_of` reads the same from it."""
    namespace, _, name = key.partition("/")
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": said.pod_uid}
    body: dict[str, Any] = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner]},
        "scheme": said.scheme,
        "address": said.address,
        "container": said.container,
        "baseModels": list(said.base_models),
        "adapters": {held.name: f"{held.resource}/{held.version}" for held in said.adapters},
        "engineNames": {held.name: held.engine_name for held in said.adapters if held.engine_name != held.name},
    }
    return {field: value for field, value in body.items() if value not in ("", [], {})}


def _map(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
