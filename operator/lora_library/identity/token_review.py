"""Tokens of Kubernetes (service accounts, or users of its own provider), looked at by the API server: TokenReview."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from lora_library.model import Principal
from lora_library.problems import Problem
from lora_operator.kube.client import Kube, KubeError

GOOD_SECONDS = 60.0
BAD_SECONDS = 10.0
MOST_KEPT = 10_000  # of good ones, and as many of bad ones: no flood of those takes the place of the others
MOST_AT_ONCE = 8
PATH = "/apis/authentication.k8s.io/v1/tokenreviews"


class TokenReview:
    """`audience` empty: what the API server itself takes."""

    def __init__(self, kube: Kube, audience: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._audience, self._clock = kube, audience, clock
        self._good: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._bad: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def verify(self, token: str) -> Principal | None:
        """See `Verifier`. An answer counts for a minute."""
        key = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        if not self._is_known(key):
            async with self._at_once:
                if not self._is_known(key):
                    await self._review(token, key)
        return self._good[key][1] if key in self._good else None

    def _is_known(self, key: bytes) -> bool:
        for kept in (self._good, self._bad):
            if key in kept and self._clock() >= kept[key][0]:
                del kept[key]
        return key in self._good or key in self._bad

    async def _review(self, token: str, key: bytes) -> None:
        spec: dict[str, object] = {"token": token}
        if self._audience:
            spec["audiences"] = [self._audience]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        try:
            answer = await self._kube.call("POST", PATH, body=body, fenced=False)
        except KubeError:
            raise Problem("IDENTITY_UNAVAILABLE", "the API server did not look at the token: try again") from None
        found = self._principal(answer.get("status") or {})
        if found is None:
            self._bad[key] = (self._clock() + BAD_SECONDS, found)
        else:
            self._good[key] = (self._clock() + GOOD_SECONDS, found)
        for kept in (self._good, self._bad):
            while len(kept) > MOST_KEPT:
                kept.popitem(last=False)

    def _principal(self, status: dict[str, object]) -> Principal | None:
        user = status.get("user")
        audiences = status.get("audiences")
        if status.get("authenticated") is not True or not isinstance(user, dict):
            return None
        if self._audience and not (isinstance(audiences, list) and self._audience in audiences):
            return None
        return Principal(str(user.get("username") or ""), frozenset(map(str, user.get("groups") or ())))
