"""Tells the agents of pods whether their engines hold what is planned; the readiness probes of agents act on that.

An agent opens by itself where this says nothing for a while, so it is repeated while adapters are on their way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from lora_operator.agent_api.wire import ReadinessBody
from lora_operator.delivery.agent_client import AgentClient, AgentError
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import KubeError
from lora_operator.planning.pod_readiness import Verdict
from lora_operator.vllm.answers import Endpoint

log = logging.getLogger(__name__)

REPEAT_SECONDS = 5.0
RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS = 0.5, 30.0  # an agent that is not there, or is of a version without this call
_READY = Verdict(True, "", "its pod is Ready", answers=False)


@dataclass(frozen=True, slots=True)
class _Word:
    namespace: str
    address: tuple[str, int]
    container: str
    is_open: bool
    message: str
    repeated: bool

    @property
    def gist(self) -> tuple[object, ...]:
        """What an agent has to hear at once; how many adapters are lacking is not of that kind."""
        return self.address, self.container, self.is_open, self.repeated


class AgentReadiness:
    """One task for each pod that is not Ready. A pod that is Ready is named once, so that its agent knows the engine
    for which it is open. `client_of` and `fence` as for `Agents`."""

    def __init__(self, client_of: Callable[[str], AgentClient], fence: Callable[[], None] = lambda: None) -> None:
        self._client_of = client_of
        self._fence = fence
        self._words: dict[str, _Word] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def sync_targets(self, found: Mapping[str, Verdict], pods: Mapping[str, PodRecord]) -> None:
        """Say what is new; `found` has the pods that are not Ready."""
        words = {key: word for key, record in pods.items() if (word := _word(record, found.get(key))) is not None}
        for key in [key for key in self._words if key not in words]:
            del self._words[key]
            if (task := self._tasks.pop(key, None)) is not None:
                task.cancel()
        for key, word in words.items():
            before, self._words[key] = self._words.get(key), word
            if before is not None and before.gist == word.gist:
                continue
            if key in self._tasks:
                self._news[key].set()
            else:
                self._news[key] = asyncio.Event()
                self._tasks[key] = asyncio.create_task(self._keep_saying(key), name=f"readiness of {key}")

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_saying(self, key: str) -> None:
        pause, news = RETRY_FIRST_SECONDS, self._news[key]
        while True:
            news.clear()
            word = self._words[key]
            try:
                self._fence()
                body = ReadinessBody(container=word.container[:512], open=word.is_open, message=word.message)
                await self._client_of(word.namespace).readiness(Endpoint(*word.address), body)
            except Exception as error:
                if not isinstance(error, (AgentError, KubeError)):
                    log.exception("what the agent of pod %s is told cannot be said", key)
                wait, pause = pause, min(pause * 2, RETRY_LAST_SECONDS)
            else:
                wait, pause = REPEAT_SECONDS, RETRY_FIRST_SECONDS
                if not word.repeated and not news.is_set():
                    break
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await news.wait()
        del self._tasks[key]


def _word(record: PodRecord, verdict: Verdict | None) -> _Word | None:
    pod = record.pod
    if not pod.agent_port or not pod.ip or not pod.container_id:
        return None
    if pod.ready:
        verdict = _READY
    if verdict is None:
        return None
    address = (pod.ip, pod.agent_port)
    return _Word(pod.namespace, address, pod.container_id, verdict.is_open, verdict.message, repeated=verdict.answers)
