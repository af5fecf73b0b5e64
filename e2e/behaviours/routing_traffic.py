"""A router and its users: follows the change stream, and sends requests to the pods that it names, until stopped."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import aiohttp

from e2e.world.rest import PATIENCE_SECONDS
from lora_operator.router.client import TableCopy

WORKERS = 3
PAUSE_SECONDS = 0.01
MOST_REQUESTS = 20_000


@dataclass
class Tally:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # answers other than 200
    broken: Counter[str] = field(default_factory=Counter)  # connections that broke or were refused, by pod
    gaps: int = 0  # how often no pod was named
    weights: dict[str, set[str]] = field(default_factory=dict)  # adapter -> what computed its answers


class RoutedTraffic:
    """`with RoutedTraffic(url, namespace, ("sql",)) as traffic:` asks for each adapter in turn, without end."""

    def __init__(self, url: str, namespace: str, adapters: tuple[str, ...]) -> None:
        self._namespace = namespace
        self._adapters = adapters
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="routed traffic", daemon=True)
        self._started = threading.Event()
        self._in_flight: Counter[str] = Counter()
        self._answered = 0
        self._error: BaseException | None = None
        self.tally = Tally()
        self.copy: TableCopy

    def __enter__(self) -> RoutedTraffic:
        self._thread.start()
        assert self._started.wait(PATIENCE_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        if self._error is not None and error is None:
            raise self._error

    def until(self, done: Callable[[TableCopy], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until the copy of the table is so."""

        async def wait() -> None:
            async with asyncio.timeout(timeout):
                await self.copy.until(done)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def let_go(self, pod: str) -> None:
        """Wait until nobody is sent to this pod any more, and whoever was has been answered."""
        self.until(lambda copy: all(one["pod"] != pod for name in self._adapters for one in self._pods(copy, name)))
        self.more(1, lambda: not self._in_flight[pod])

    def more(self, count: int = 30, also: Callable[[], bool] = lambda: True, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until so many more requests were answered."""

        async def wait() -> None:
            wanted = self._answered + count
            async with asyncio.timeout(timeout), self._answer:
                await self._answer.wait_for(lambda: self._answered >= wanted and also())

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _pods(self, copy: TableCopy, adapter: str) -> list[dict[str, str]]:
        return copy.pods(self._namespace, adapter)

    def _live(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()
            self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        self._answer = asyncio.Condition()
        self.copy = TableCopy(self._url)
        following = asyncio.create_task(self.copy.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.copy.until(lambda copy: all(self._pods(copy, name) for name in self._adapters))
            self._started.set()
            async with aiohttp.ClientSession() as session:
                workers = [asyncio.create_task(self._work(session, number)) for number in range(WORKERS)]
                await asyncio.gather(*workers)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _work(self, session: aiohttp.ClientSession, number: int) -> None:
        for turn in range(number, MOST_REQUESTS, WORKERS):
            if self._stop.is_set():
                return
            adapter = self._adapters[turn % len(self._adapters)]
            pods = self._pods(self.copy, adapter)
            if pods:
                await self._ask(session, adapter, pods[turn // len(self._adapters) % len(pods)])
            else:
                self.tally.gaps += 1
            async with self._answer:
                self._answer.notify_all()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask(self, session: aiohttp.ClientSession, adapter: str, pod: dict[str, str]) -> None:
        body = {"model": pod["engineName"], "prompt": "a long prompt, the same each time", "max_tokens": 2}
        self._in_flight[pod["pod"]] += 1
        try:
            async with session.post(f"http://{pod['address']}/v1/completions", json=body) as answer:
                text = await answer.text()
        except aiohttp.ClientError:
            self.tally.broken[pod["pod"]] += 1
            return
        finally:
            self._in_flight[pod["pod"]] -= 1
            self._answered += 1
        self.tally.statuses[answer.status] += 1
        if answer.status != 200 or f"adapter={pod['engineName']} " not in text:
            self.tally.wrong.append(f"{adapter} as {pod['engineName']} on {pod['pod']}: {answer.status} {text[:200]}")
        self.tally.weights.setdefault(adapter, set()).add(text.partition("weights=")[2].partition(" ")[0])
