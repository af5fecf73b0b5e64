"""What the kinds of patches do to metadata on a real API server, as far as the operator's writes go."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


class TestFailed(Exception):
    """A `test` of a JSON patch, or its path, does not hold: the API server answers 422."""

    __test__ = False


def json_patched(body: Json, patch: list[Json]) -> Json:
    """A changed copy. Like the API server's library: a `test` for null holds where nothing is. Raises TestFailed."""
    changed: Json = json.loads(json.dumps(body))
    for step in patch:
        *parents, last = step["path"].removeprefix("/").split("/")
        parent: Any = changed
        try:
            for name in parents:
                parent = parent[int(name)] if isinstance(parent, list) else parent[name]
            key: Any = int(last) if isinstance(parent, list) and last != "-" else last
            if step["op"] == "test":
                found = parent.get(key) if isinstance(parent, dict) else parent[key]
                if found != step["value"]:
                    raise TestFailed(f"{step['path']} is {found!r}")
            elif step["op"] == "remove":
                del parent[key]
            elif isinstance(parent, list):
                parent.insert(len(parent) if key == "-" else key, step["value"])
            else:
                parent[key] = step["value"]
        except (LookupError, ValueError) as error:
            raise TestFailed(f"{step['path']}: {error!r}") from error
    return changed


class FinalizerOwners:
    """Who owns each finalizer of one object: server-side apply takes away only what its manager owns alone."""

    def __init__(self) -> None:
        self._managers: dict[str, set[str]] = {}

    def apply(self, present: list[str], manager: str, applied: list[str]) -> list[str]:
        """The finalizers after `manager` applied these. What is there by other means is its writer's."""
        for name in present:
            self._managers.setdefault(name, {"whoever made it"})
        for name, managers in self._managers.items():
            managers.discard(manager)
            if name in applied:
                managers.add(manager)
        for name in applied:
            self._managers.setdefault(name, {manager})
        left = [name for name in [*present, *(a for a in applied if a not in present)] if self._managers[name]]
        self._managers = {name: managers for name, managers in self._managers.items() if name in left}
        return left
