"""Orders for versions, asked of their source once for all pods that want the same version at about the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from lora_operator.delivery.agent_client import AgentError
from lora_operator.delivery.delivery_router import Locate
from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.fetch.manifest import FetchManifest

SHARED_SECONDS = 30.0
MOST_KEPT = 256
RENEW_SECONDS = 60.0  # links that run out sooner are made anew before they are handed out
Item = tuple[str, str, str]  # resource, name, version


class Manifests:
    """Keeps an order for a moment: a fleet that starts would ask a source once for each pod. `clock` is Unix time.
    `secrets`: whether orders may carry what Secrets hold.
    """

    def __init__(self, locate: Locate, clock: Callable[[], float], *, secrets: bool) -> None:
        self._locate = locate
        self._secrets = secrets
        self._clock = clock
        self._made: dict[Item, tuple[FetchManifest, float]] = {}
        self._asking: dict[Item, asyncio.Task[FetchManifest]] = {}

    async def get(self, wanted: DesiredAdapter, stale: FetchManifest | None = None) -> FetchManifest:
        """Any order but `stale`, whose links are refused. Raises AgentError, and what `locate` raises."""
        item = (wanted.resource, wanted.adapter.name, wanted.adapter.version)
        now = self._clock()
        order, made_at = self._made.get(item, (None, 0.0))
        if order is not None and order is not stale and now - made_at < SHARED_SECONDS and not self.runs_out(order):
            return order
        task = self._asking.get(item)
        if task is None:
            task = self._asking[item] = asyncio.create_task(self._ask(item, wanted), name=f"order {item[1]}")
            task.add_done_callback(lambda done: self._ended(item, done))
        # the others still want it when one of them is cancelled
        return await asyncio.shield(task)

    def runs_out(self, order: FetchManifest) -> bool:
        """Whether one of its links does not last long enough to be handed out."""
        return order.expires_at is not None and order.expires_at - self._clock() < RENEW_SECONDS

    async def stop(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, item: Item, done: asyncio.Task[FetchManifest]) -> None:
        del self._asking[item]
        if not done.cancelled():
            done.exception()  # if everybody who waited for it was cancelled, nobody else asks

    async def _ask(self, item: Item, wanted: DesiredAdapter) -> FetchManifest:
        if wanted.found is None:
            raise AgentError(
                "SourceUnavailable",
                f"version {wanted.adapter.version} of {wanted.adapter.name} cannot be fetched, as its source cannot be "
                "read now; see the SourceReady condition",
                retryable=True,
            )
        located = await self._locate(wanted)
        if isinstance(located, Path):
            raise AgentError(
                "NotReachableByAgent",
                "the pod gets adapters through its agent, which cannot read folders of the operator: use a source of "
                "type http, s3, azure or huggingface, or pods that mount the adapter volume",
                retryable=False,
            )
        if located.shows_secret and not self._secrets:
            raise AgentError(
                "SecretNotForAgents",
                f"only who has the Secret itself gets the files of {wanted.adapter.name}, and agents do not get it: "
                "let the source sign links (s3; azure with an account key or the operator's identity), use pods that "
                "mount the adapter volume, or start the operator with --secrets-to-agents",
                retryable=False,
            )
        now = self._clock()
        for old in [key for key, (_, made_at) in self._made.items() if now - made_at >= SHARED_SECONDS]:
            del self._made[old]  # links are secrets: no longer than they are of use
        while len(self._made) >= MOST_KEPT:
            del self._made[next(iter(self._made))]
        self._made.pop(item, None)
        self._made[item] = located, now
        return located
