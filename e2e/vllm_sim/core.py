"""The engine behind the API server: what is resident, what runs, and how it dies.

One step runs at a time. Reading an adapter happens inside a step, so while files are read nothing is generated. The
names that the API server knows are not kept here (see `registry`): the engine knows loads by their id only, as
vLLM's does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from .adapter_files import AdapterNotFound, Limits, LoadRefused, Weights, read_adapter
from .arguments import Settings
from .base_model import BaseModel
from .journal import Journal
from .prefix_cache import PrefixCache, Reused
from .releases import CacheKey

_INLINE_BYTES = 1 << 20  # larger files are read in a thread, so that other engines in this process go on
BASE_DIGEST = "0" * 12
_SPOILED_BY_NAN = 3  # seen: the next two requests, sometimes more


class EngineDead(Exception):
    """The engine has died; the process is about to end."""

    def __init__(self, *, named: bool = True) -> None:
        named_so = "EngineCore encountered an issue. See stack trace (above) for the root cause."
        super().__init__(named_so if named else "The server had an error while processing your request.")


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """One load: the name and path as sent, and the id that the engine knows it by."""

    id: int
    name: str
    path: str
    inplace: bool = False


def _takes_long(path: str) -> bool:
    """Whether reading there would stop everything else in this process: a large file, or a config that is a pipe."""
    try:
        folder = Path(path)
        if (folder / "adapter_config.json").is_fifo():
            return True
        return (folder / "adapter_model.safetensors").stat().st_size > _INLINE_BYTES
    except (OSError, ValueError):
        return False


@dataclass(frozen=True, slots=True)
class Computed:
    """Which weights answer a request, and whether NaN is in the answer."""

    adapter: str
    digest: str
    reused: Reused
    has_nan: bool


class EngineCore:
    """Residency, slots and steps of one engine."""

    def __init__(self, settings: Settings, base: BaseModel | None, journal: Journal) -> None:
        self.settings = settings
        self.journal = journal
        self.limits = Limits(settings.max_lora_rank, settings.release, base)
        self.cache = PrefixCache(settings.block_size, enabled=settings.prefix_caching)
        self.resident: OrderedDict[int, Weights] = OrderedDict()
        self.running: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()
        self.died = asyncio.Event()
        self.on_activity: Callable[[], None] = lambda: None
        self._spoils = 0
        self._slots: Counter[int] = Counter()
        self._running_total = 0
        self._changed = asyncio.Event()
        self._step = asyncio.Lock()

    @property
    def requests_running(self) -> int:
        """How many requests are in the batch."""
        return self._running_total

    async def add_lora(self, lora: LoadedAdapter) -> None:
        """Read the adapter and make it resident. Raises AdapterNotFound, LoadRefused or EngineDead."""
        if not self.settings.enable_lora:
            raise LoadRefused("LoRA is not enabled.")
        async with AsyncExitStack() as stack:
            if not self.settings.parallel_loads:
                await stack.enter_async_context(self._step)
            self._raise_if_dead()
            await self._read(lora)

    async def remove_lora(self, lora: LoadedAdapter) -> bool:
        """Drop the adapter; False where it is not resident. Raises EngineDead."""
        async with self._step:
            self._raise_if_dead()
            return self.resident.pop(lora.id, None) is not None

    @asynccontextmanager
    async def serving(self, lora: LoadedAdapter | None, prompt: str) -> AsyncIterator[Computed]:
        """Take part in the batch: wait for a slot, be resident, and hold both until the block ends.

        Raises EngineDead, also for the request that kills it by wanting an adapter whose files are gone.
        """
        self._raise_if_dead()
        label = lora.name if lora else ""
        await self._enter(lora, label)
        try:
            async with self._step:
                self._raise_if_dead()
                weights = await self._resident_weights(lora) if lora else None
            spoiled = self._note_nan(weights)
            digest = weights.digest if weights else BASE_DIGEST
            reused = self.cache.reuse(self._cache_key(lora), prompt, digest)
            yield Computed(label or "base", digest, reused, spoiled)
        finally:
            self._leave(lora, label)

    def _note_nan(self, weights: Weights | None) -> bool:
        """Whether this answer is spoiled: by its own NaN, or by what such a request has just left behind."""
        if weights is not None and weights.has_nan:
            self._spoils = _SPOILED_BY_NAN
            return True
        self._spoils -= self._spoils > 0
        return self._spoils > 0

    async def step(self, lora: LoadedAdapter | None, seconds: float) -> None:
        """Compute for so long, after any adapter that is being read. Raises EngineDead when the engine dies.

        The adapter has to be resident at every step: one that was pushed out meanwhile is read again.
        """
        async with self._step:  # held for reading only: steps of a batch are taken together
            self._raise_if_dead()
            if lora is not None:
                await self._resident_weights(lora)
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self.died.wait()
            except TimeoutError:
                pass
            self._raise_if_dead()

    def die(self) -> None:
        """End the engine: every request in it fails."""
        self.died.set()
        self._wake()

    def _dead(self) -> EngineDead:
        return EngineDead(named=self.settings.release.death_is_named)

    def _raise_if_dead(self) -> None:
        if self.died.is_set():
            raise self._dead()

    async def _enter(self, lora: LoadedAdapter | None, label: str) -> None:
        # No fairness: whoever finds a slot takes it, and requests of an adapter that runs join it at once.
        while not self._fits(lora):
            self.waiting[label] += 1
            self.note_step()
            try:
                await self._changed.wait()
            finally:
                self.waiting[label] -= 1
            self._raise_if_dead()
        self._running_total += 1
        self.running[label] += 1
        if lora is not None:
            self._slots[lora.id] += 1

    def note_step(self) -> None:
        """A step has ended with the batch as it is: a request that ended with it is not in there any more, so that
        one of a single token is never seen."""
        if self.settings.enable_lora:
            self.on_activity()

    def _fits(self, lora: LoadedAdapter | None) -> bool:
        if self._running_total >= self.settings.max_num_seqs:
            return False
        return lora is None or lora.id in self._slots or len(self._slots) < self.settings.max_loras

    def _leave(self, lora: LoadedAdapter | None, label: str) -> None:
        self._running_total -= 1
        self.running[label] -= 1
        if lora is not None:
            self._slots[lora.id] -= 1
            if not self._slots[lora.id]:
                del self._slots[lora.id]
        self.note_step()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _resident_weights(self, lora: LoadedAdapter) -> Weights:
        weights = self.resident.get(lora.id)
        if weights is not None and not (lora.inplace and self.settings.release.inplace_is_sticky):
            self.resident.move_to_end(lora.id)
            return weights
        try:
            return await self._read(lora)
        except (AdapterNotFound, LoadRefused, OSError) as exc:
            self.journal.note("engine died", name=lora.name, path=lora.path, error=str(exc))
            self.die()
            raise self._dead() from exc

    async def _read(self, lora: LoadedAdapter) -> Weights:
        await asyncio.sleep(self.settings.load_seconds)
        if _takes_long(lora.path):
            weights = await asyncio.to_thread(read_adapter, lora.path, self.limits)
        else:
            weights = read_adapter(lora.path, self.limits)
        self.resident.pop(lora.id, None)
        while len(self.resident) >= self.settings.max_cpu_loras:
            self.resident.popitem(last=False)
        self.resident[lora.id] = weights
        return weights

    def _cache_key(self, lora: LoadedAdapter | None) -> object:
        if lora is None:
            return None
        match self.settings.release.cache_key:
            case CacheKey.LOAD_ID:
                return lora.id
            case CacheKey.NAME:
                return lora.name
            case _:
                return (lora.name, lora.path)
