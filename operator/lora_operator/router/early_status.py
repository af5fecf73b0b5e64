"""What status is about to say, for the table of the operator that writes it: some hundred milliseconds earlier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lora_operator.informers.cache import Cluster
from lora_operator.status.aggregate import StatusInput, status_of


class Ahead:
    """Remembers what each status was made of, so that only what changed is worked out anew."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given: dict[str, StatusInput] = {}

    def news(self, inputs: Mapping[str, StatusInput]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """(resource, status) for each that differs from the last time; None for those that are no more."""
        for key in [key for key in self._given if key not in inputs]:
            del self._given[key]
            yield key, None
        for key, given in inputs.items():
            resource = self._cluster.adapters.get(key)
            if resource is None or self._given.get(key) == given:
                continue
            self._given[key] = given
            yield key, status_of(given, resource.status, datetime.now(UTC), assignments=False).to_dict()
