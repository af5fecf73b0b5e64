"""Adapters in containers of Azure Blob Storage.

A key, a SAS token or a connection string comes from the resource's Secret. Without one, the operator's own identity is
used (workload, managed), but only towards Azure or hosts that the operator's settings allow by name: its token opens
other accounts too. Where there is neither, requests are anonymous, which public containers answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from lora_operator.fetch.hosts import HostRules
from lora_operator.sources.azure_keys import keys_of
from lora_operator.sources.azure_place import place_of
from lora_operator.sources.base import SourceError, SourceRequest
from lora_operator.sources.credential_hosts import check_may_go
from lora_operator.sources.remote import SETTLE_SECONDS
from lora_operator.sources.remote_store import ObjectSource, ObjectStore, Timing

if TYPE_CHECKING:
    from lora_operator.sources.azure_store import Identity


class AzureSource(ObjectSource):
    """Reads `account/container[/prefix]` or the container's URL: one adapter right there, or one per folder.

    `identity` gives a credential of the SDK for the operator itself; what its surroundings offer if None. See
    ObjectSource for the rest.
    """

    def __init__(
        self,
        *,
        rules: HostRules | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.time,
        identity: Callable[[], Any] | None = None,
    ) -> None:
        self._timing = timing or Timing()
        super().__init__("azure", self._open, timing=self._timing, settle_seconds=settle_seconds, clock=clock)
        self._rules = rules or HostRules()
        self._make_identity = identity
        self._identity: Identity | None = None
        self._starting = threading.Lock()

    def _open(self, request: SourceRequest) -> ObjectStore:
        keys = keys_of(request.credentials)
        place = place_of(request, keys.endpoint if keys else None)
        if keys is not None and keys.account not in (None, place.account):
            raise SourceError(
                "CredentialsForOtherAccount",
                f"the Secret's connection string is not for the storage account {place.account!r}: correct one of them",
                retryable=False,
            )
        if keys is not None and request.credentials is not None and not place.is_azure:
            check_may_go(request.credentials, place.url, (keys.endpoint,) if keys.endpoint else ())
        # the SDK takes half a second to import and thirty megabytes
        from lora_operator.sources.azure_store import AzureStore, Identity, own_identity

        with self._starting:
            if self._identity is None:
                self._identity = Identity(self._make_identity or partial(own_identity, self._rules.ca_file))
        return AzureStore(self._identity, place, keys, self._rules, self._timing)
