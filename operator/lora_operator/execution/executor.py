"""Carries out plans: begins loads and unloads, each in a task of its own.

It keeps no queue of its own making: each plan replaces what was not begun of the one before, and every action is
checked against the present once more before it is begun. A pod that hangs holds up its own actions and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from lora_operator.delivery import DeliveryRouter
from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.engines.ownership import our_model
from lora_operator.execution.context import Context
from lora_operator.execution.load import Loading
from lora_operator.execution.plan_in_force import InForce
from lora_operator.execution.presence import fields, present, still_runs
from lora_operator.execution.served_versions import ServedNames
from lora_operator.execution.unload import Unloading
from lora_operator.planning.inflight import Effect, Stage
from lora_operator.planning.snapshot import engine_name_for
from lora_operator.process.slices import in_slices
from lora_operator.tracing import Parent
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.quirks import StaleCache
from lora_scheduler import Load, Plan, Unload

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How the executor paces itself."""

    fresh_concurrency: int
    withdraw_seconds: float
    versioned_names: bool


class Executor:
    """Carries out plans. `withdraw`: see `Unloading`."""

    def __init__(
        self,
        context: Context,
        files: DeliveryRouter,
        served_names: ServedNames,
        limits: Limits,
        withdraw: Callable[[str, str], Awaitable[bool]],
    ) -> None:
        self._on = context
        self._served_names = served_names
        self._limits = limits
        self._planned: Parent = None  # the round whose plan this is
        self._loads: dict[str, deque[Load]] = {}
        self._unloads: dict[str, deque[Unload]] = {}
        self._tasks: dict[asyncio.Task[None], Effect] = {}
        self.held = False  # while the next plan is made: of a present to which nothing may be added
        self._loading = Loading(context, files, served_names, self._begin)
        self._unloading = Unloading(context, limits.withdraw_seconds, withdraw)

    async def submit(self, plan: Plan, desired: Desired) -> None:
        """Take over a new plan: what an older one had not begun is forgotten."""
        self._on.in_force = InForce.of(plan, desired)
        self._planned = self._on.tracing.here()
        self._loads.clear()
        self._unloads.clear()
        for action in plan.actions:
            if isinstance(action, Load):
                self._loads.setdefault(action.pod, deque()).append(action)
            else:
                self._unloads.setdefault(action.pod, deque()).append(action)
        busy = set(self._loads) | {load.pod for load, _ in plan.waiting}
        for pod, view in self._on.engines.views.items():
            if view.state is EngineState.UP and pod not in busy and not any(e.is_load for e in self._on.ledger.on(pod)):
                self._on.engines.note_settled(pod)
        self._cancel_gone()
        self._served_names.note_strangers()
        async for pod in in_slices({*self._loads, *self._unloads}):
            self._begin(pod)

    def _cancel_gone(self) -> None:
        """Wait for no answer of a container that is gone: a machine that is lost never closes its connections."""
        for task, effect in self._tasks.items():
            view = self._on.engines.views.get(effect.pod)
            if view is None or view.instance != effect.instance or not still_runs(self._on.cluster, effect):
                task.cancel()
        present_instances = {view.instance for view in self._on.engines.views.values()}
        for key in [key for key in self._on.ledger.failed_unloads if key[0] not in present_instances]:
            del self._on.ledger.failed_unloads[key]

    async def stop(self, grace_seconds: float) -> None:
        """Begin nothing more; let what is under way end, then cut it off (the next start finds out how it ended).

        A load that no engine was asked for yet is given up at once.
        """
        self._on.stopping.set()
        for task, effect in self._tasks.items():
            if effect.stage is Stage.FETCHING:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, pod: str) -> None:
        if self._on.stopping.is_set() or self.held:
            return
        for unload in self._unloads.pop(pod, ()):  # all are withdrawn at once, and wait for their turn then
            self._start_unload(unload)
        loads = self._loads.get(pod)
        most = self._on.concurrency.loads_at_a_time(self._on.engines.views.get(pod))
        while loads and sum(e.is_load for e in self._on.ledger.on(pod)) < most:
            self._start_load(loads.popleft())

    def _spawn(self, effect: Effect, work: Callable[[], Awaitable[None]], name: str) -> None:
        """`work` is made when it begins: who is cancelled before that has begun nothing."""
        planned = self._planned

        async def run() -> None:
            what = "unload adapter" if effect.is_unload else "load adapter"
            try:
                with self._on.tracing.span(what, under=planned, engine_name=effect.engine_name, **fields(effect)):
                    await work()
            finally:
                self._on.changed()
                self._begin(effect.pod)

        task = asyncio.create_task(run(), name=name)
        self._tasks[task] = effect
        task.add_done_callback(self._tasks.pop)

    def _start_load(self, load: Load) -> None:
        there = present(self._on.cluster, self._on.engines, load.pod)
        wanted = self._wanted(load.adapter)
        if there is None or wanted is None or wanted.adapter.version != load.version:
            return
        record, view = there
        choice = engine_name_for(record, view, wanted, self._limits.versioned_names)
        if isinstance(choice, StaleCache) or view.listed(choice.engine_name) is not None:
            return
        adapter = wanted.adapter
        effect = Effect(
            load.pod, choice.engine_name, Stage.FETCHING, adapter.key, adapter.version, adapter.bytes, adapter.rank,
            view.instance,
        )  # fmt: skip
        if self._on.ledger.begin(effect):
            work = partial(self._loading.run, effect, record, wanted)
            self._spawn(effect, work, f"load {adapter.name} on {load.pod}")

    def _wanted(self, adapter: str | None) -> DesiredAdapter | None:
        desired = self._on.in_force.desired
        return desired.adapters.get(adapter or "") if desired is not None else None

    def _start_unload(self, unload: Unload) -> None:
        there = present(self._on.cluster, self._on.engines, unload.pod)
        if there is None:
            return
        record, view = there
        model = view.listed(unload.name)
        ours = our_model(model, record.pod.adapter_root) if model is not None else None
        if ours is None:
            return  # not there any more, or somebody else's
        effect = Effect(
            unload.pod, unload.name, Stage.WITHDRAWING, unload.adapter, ours.fingerprint, 0, 0, view.instance
        )
        if self._on.ledger.begin(effect):
            self._spawn(effect, partial(self._unloading.run, effect, unload), f"unload {unload.name} from {unload.pod}")
