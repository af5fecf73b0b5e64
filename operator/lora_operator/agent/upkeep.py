"""Opens the adapter disk, keeps it within its bounds, and sees what is wrong with it or with the token.

Neither ends the agent: the engine serves what it has loaded, and its pod is Ready only while its agent runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from lora_operator.agent.service import Loaded
from lora_operator.agent_api.marker import Marker
from lora_operator.agent_api.token import TokenError, TokenFile
from lora_operator.cache.store_error import StoreError
from lora_operator.cache.volume import VolumeStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
SWEEP_SECONDS = 600.0


class Upkeep:
    """Of one agent's disk. `pod` as in `Service`."""

    def __init__(self, store: VolumeStore, token: TokenFile, marker: Marker, pod: str, loaded: Loaded) -> None:
        self._store = store
        self._token = token
        self._marker = marker
        self._pod = pod
        self._loaded = loaded
        self._checking: asyncio.Task[None] | None = None
        self._wrong: tuple[str, ...] = ()
        self.opened = asyncio.Event()

    def troubles(self) -> str:
        """What was wrong at the last look, in words; empty if nothing."""
        return "; ".join(self._wrong)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if await self._open():
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.opened.set()
        sweep_at = time.monotonic()
        while True:
            if time.monotonic() >= sweep_at:
                await self._sweep()
                sweep_at = time.monotonic() + SWEEP_SECONDS * random.uniform(0.9, 1.1)
            self._say(self._token_trouble(), await self._disk_trouble())
            await asyncio.sleep(LOOK_SECONDS)

    async def _open(self) -> bool:
        try:
            # the engine outlives its agent, and the operator tells only what is new: what it said last still holds
            held = await self._store.held_by(self._pod)
            if self._loaded.versions is None:
                self._loaded.versions = held
            repaired = await self._store.start()
        except StoreError as error:
            self._say(self._token_trouble(), str(error))
            return False
        if repaired:
            log.info("repaired %d half states on the adapter disk", repaired)
        return True

    async def _sweep(self) -> None:
        """Remove what is older than the TTL."""
        try:
            if (kept := self._loaded.kept) is not None:
                await self._store.hold(self._pod, kept)  # what is not renewed runs out
                await self._store.sweep(kept)
        except StoreError as error:
            log.warning("looking after the adapter disk failed: %s", error)
        await asyncio.to_thread(self._marker.renew)

    def _token_trouble(self) -> str:
        try:
            self._token.read()
        except TokenError as error:
            return str(error)
        return ""

    async def _disk_trouble(self) -> str:
        if self._checking is None:
            self._checking = asyncio.create_task(self._store.check(), name="check the adapter disk")
        done, _ = await asyncio.wait({self._checking}, timeout=LOOK_SECONDS)
        if not done:
            return "the adapter disk does not answer"
        checked, self._checking = self._checking, None
        error = checked.exception()
        return "" if error is None else str(error)

    def _say(self, *wrong: str) -> None:
        found = tuple(filter(None, wrong))
        if found != self._wrong:
            if found:
                log.error("nothing new can be loaded here: %s", "; ".join(found))
            else:
                log.info("token and adapter disk can be used again")
        self._wrong = found
