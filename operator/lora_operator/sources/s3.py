"""Adapters in buckets of S3, or of a store that speaks as it does.

Keys come from the resource's Secret. Without one, the operator's own role is used (environment, IRSA, instance), but
only towards AWS or hosts that the operator's settings allow by name: whoever may name an endpoint must not get at the
role's tokens. Where there is neither, requests are unsigned, which public buckets answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lora_operator.fetch.hosts import HostRules
from lora_operator.sources.base import Resolution, SourceRequest
from lora_operator.sources.remote import SETTLE_SECONDS
from lora_operator.sources.remote_store import ObjectSource, ObjectStore, Timing
from lora_operator.sources.s3_place import AddressedByHost, keys_of, place_of

if TYPE_CHECKING:
    from lora_operator.sources.s3_store import Surroundings


class S3Source(ObjectSource):
    """Reads `bucket[/prefix]`: one adapter right there, or one per folder. See ObjectSource for the rest."""

    def __init__(
        self,
        *,
        rules: HostRules | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._timing = timing or Timing()
        super().__init__("s3", self._open, timing=self._timing, settle_seconds=settle_seconds, clock=clock)
        self._rules = rules or HostRules()
        self._surroundings: Surroundings | None = None
        self._starting = threading.Lock()

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`. Where the store wants to be addressed otherwise, it is asked once more."""
        try:
            return await super().resolve(request, previous)
        except AddressedByHost:
            pass
        return await super().resolve(request, previous)

    def _open(self, request: SourceRequest) -> ObjectStore:
        place, keys = place_of(request), keys_of(request.credentials)
        # the SDK takes half a second to import and forty megabytes
        from lora_operator.sources.s3_store import S3Store, Surroundings

        with self._starting:
            if self._surroundings is None:
                self._surroundings = Surroundings(self._rules.ca_file)
        return S3Store(self._surroundings, place, keys, self._rules, self._timing)
