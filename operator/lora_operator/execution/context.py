"""What loads and unloads share: whom they ask, what they count, and the plan that counts now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from lora_operator.engines.prober import Engines
from lora_operator.execution.concurrency import LoadConcurrency
from lora_operator.execution.plan_in_force import InForce
from lora_operator.informers.cache import Cluster
from lora_operator.kube.events import Recorder
from lora_operator.planning.inflight import Failures, Ledger
from lora_operator.telemetry.metrics import Metrics
from lora_operator.tracing import OFF, Tracing
from lora_operator.vllm.client import EngineClient


@dataclass(slots=True)
class Context:
    """`changed` is called whenever something began or ended; `fence` raises LeaseLost where another operator may be
    acting by now; once `stopping` is set nothing new is begun."""

    engines: Engines
    client: EngineClient
    cluster: Cluster
    recorder: Recorder
    ledger: Ledger
    failures: Failures
    metrics: Metrics
    concurrency: LoadConcurrency
    changed: Callable[[], None]
    fence: Callable[[], None]
    tracing: Tracing = OFF
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    in_force: InForce = field(default_factory=InForce)
