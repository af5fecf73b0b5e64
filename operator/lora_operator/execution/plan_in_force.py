"""What the plan that counts now says about one effect. Pure.

It is asked right before an engine is: much may have changed while files were fetched, or routers let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_operator.desired.adapters import Desired
from lora_operator.engines.liveness import EngineView
from lora_operator.planning.inflight import Effect
from lora_operator.vllm.quirks import public_name
from lora_scheduler import Plan, Unload, UnloadCause


@dataclass(frozen=True, slots=True)
class InForce:
    """The newest plan, and what it was made for; both None before the first."""

    desired: Desired | None = None
    assignments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, desired: Desired) -> InForce:
        return cls(desired, plan.assignments, plan.missing)

    def wants_load(self, effect: Effect) -> bool:
        """Whether this very version is to be on that pod."""
        return self._is_current(effect) and effect.pod in self.assignments.get(effect.adapter or "", ())

    def lacks(self, effect: Effect) -> bool:
        """Whether this very version has fewer places than it should."""
        return self._is_current(effect) and self.missing.get(effect.adapter or "", 0) > 0

    def wants_back(self, effect: Effect, view: EngineView) -> bool:
        """Whether what is to be unloaded is wanted there again, and is not there under another name as well."""
        namespace = effect.pod.partition("/")[0]
        wanted = self.desired.by_name(namespace, public_name(effect.engine_name)) if self.desired else None
        model = view.listed(effect.engine_name)
        if wanted is None or wanted.adapter.version != effect.version or model is None or model.partial:
            return False
        twins = any(other.root == model.root and other.name != model.name for other in view.models)
        return not twins and effect.pod in self.assignments.get(wanted.adapter.key, ())

    def preemption(self, unload: Unload) -> str | None:
        """What the owner of an adapter that has to make room is told."""
        desired = self.desired
        if unload.cause is not UnloadCause.PREEMPTED or desired is None:
            return None
        victim = desired.adapters.get(unload.adapter or "")
        other = desired.adapters.get(unload.on_behalf_of or "")
        if victim is None or other is None:
            return None
        why = f"priority {other.adapter.priority} goes before {victim.adapter.priority}"
        return (
            f"{victim.adapter.name} leaves pod {unload.pod.partition('/')[2]} to make room for "
            f"{other.adapter.name} of LoraAdapter {other.resource}: "
            f"{'nobody has used it for a while' if victim.adapter.idle else why}"
        )

    def _is_current(self, effect: Effect) -> bool:
        wanted = self.desired.adapters.get(effect.adapter or "") if self.desired else None
        return wanted is not None and wanted.adapter.version == effect.version
