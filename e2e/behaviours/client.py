"""A user of adapters who reads LoraEndpoints and sends requests all the while, as a router does."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from e2e.world import EngineProbe, Rest, World
from e2e.world.engines import Answer

Json = dict[str, Any]
PROMPT = "the same long prompt again and again, so that its prefix is found in the cache"
# leaves the machine to those who are asked
PAUSE_SECONDS = 0.01


def digest_of(folder: Path) -> str:
    """How a simulated engine calls the weights of this adapter."""
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: to whom, when LoraEndpoints were read for it, how old that view was at the answer, and what came."""

    pod: str
    model: str
    read_at: float
    view_age_seconds: float
    answer: Answer


class Client:
    """Asks all pods that LoraEndpoints name for one adapter, in turn, from a thread of its own until the block ends."""

    def __init__(self, world: World, resource: str, adapter: str) -> None:
        self._world = world
        self._resource = resource
        self._adapter = adapter
        self._rest = Rest(world.plane.kubeconfig)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self.requests: list[Request] = []
        self.gaps = 0  # how often there was no pod to ask
        self.error: BaseException | None = None

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._rest.close()
        if self.error is not None and error is None:
            raise self.error

    def since(self, moment: float) -> list[Request]:
        """What was asked by LoraEndpoints that were read after that (monotonic) moment."""
        return [request for request in self.requests if request.read_at > moment]

    def _run(self) -> None:
        try:
            while not self._ended.wait(PAUSE_SECONDS):
                self._ask_all()
        except BaseException as error:
            self.error = error

    def _ask_all(self) -> None:
        read_at = time.monotonic()
        held = [body for body in self._rest.get(self._world.endpoints)["items"] if self._holds(body)]
        self.gaps += not held
        for body in held:
            model = (body.get("engineNames") or {}).get(self._adapter, self._adapter)
            answer = EngineProbe(body["address"]).complete(model, PROMPT)
            age = time.monotonic() - read_at
            self.requests.append(Request(body["metadata"]["name"], model, read_at, age, answer))

    def _holds(self, endpoint: Json) -> bool:
        """Whether the LoraEndpoint has the adapter, and has it from the resource."""
        origin = (endpoint.get("adapters") or {}).get(self._adapter, "")
        return bool(origin.partition("/")[0] == self._resource)
