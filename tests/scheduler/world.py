"""A fleet that plans are tried on: actions begin, end or fail one by one, and everything else changes meanwhile.

It refuses what a real fleet would suffer from: a load that does not fit beside what is there at that very moment, one
under a name that is taken, an unload of what is not ours or is not loaded.
"""

from __future__ import annotations

from dataclasses import replace

from lora_scheduler import Adapter, Load, Places, Plan, Pod, Reason, Resident, ResidentState, Snapshot, Unload, matches
from lora_scheduler.simulation import engine_name


class World:
    def __init__(self) -> None:
        self.adapters: dict[str, Adapter] = {}
        self.pods: dict[str, Pod] = {}
        self.places = Places()  # that the next plan is to hold on to

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self.adapters.values()), tuple(self.pods.values()), self.places)

    def begin(self, action: Load | Unload) -> None:
        if isinstance(action, Load):
            self._begin_load(action)
        else:
            self._begin_unload(action)

    def _begin_load(self, load: Load) -> None:
        pod, adapter = self.pods[load.pod], self.adapters[load.adapter]
        assert pod.ready and not pod.draining, f"{load} goes to a pod that takes nothing"
        assert load.version == adapter.version
        assert adapter.base_model == pod.base_model and matches(adapter.selector, pod.labels)
        assert adapter.rank <= pod.max_rank and adapter.key not in pod.excluded
        name = engine_name(adapter, pod)
        assert name not in {resident.name for resident in pod.residents}, f"{load}: the name {name} is taken"
        assert not any(r.adapter == adapter.key and r.owned and r.version == adapter.version for r in pod.residents)
        arriving = Resident(name, adapter.bytes, adapter.rank, adapter.key, adapter.version, ResidentState.LOADING)
        grown = replace(pod, residents=(*pod.residents, arriving))
        assert len(grown.residents) <= pod.host_slots, f"{load} takes a slot that is not there"
        used = sum(resident.bytes for resident in grown.residents)
        assert pod.memory_bytes is None or used <= pod.memory_bytes, f"{load} takes memory that is not there"
        ours = sum(resident.bytes for resident in grown.residents if resident.owned)
        assert pod.disk_bytes is None or ours <= pod.disk_bytes, f"{load} has no room on the disk"
        self.pods[pod.key] = grown

    def _begin_unload(self, unload: Unload) -> None:
        pod = self.pods[unload.pod]
        assert pod.ready and not pod.draining, f"{unload} goes to a pod that takes nothing"
        found = [resident for resident in pod.residents if resident.name == unload.name]
        assert len(found) == 1 and found[0].owned and found[0].state is ResidentState.LOADED, unload
        self._replace(pod, found[0], replace(found[0], state=ResidentState.UNLOADING))

    def _replace(self, pod: Pod, old: Resident, new: Resident | None) -> None:
        kept = [resident for resident in pod.residents if resident is not old]
        self.pods[pod.key] = replace(pod, residents=(*kept, *([new] if new else [])))

    def in_flight(self) -> list[tuple[str, Resident]]:
        return [
            (pod.key, resident)
            for pod in self.pods.values()
            for resident in pod.residents
            if resident.state is not ResidentState.LOADED and pod.ready
        ]

    def end(self, pod_key: str, resident: Resident) -> None:
        """What was under way has ended well."""
        loaded = resident.state is ResidentState.LOADING
        new = replace(resident, state=ResidentState.LOADED) if loaded else None
        self._replace(self.pods[pod_key], resident, new)

    def fail(self, pod_key: str, resident: Resident) -> None:
        """What was under way has failed: a load leaves nothing but a refusal, an unload leaves the resident."""
        pod = self.pods[pod_key]
        if resident.state is ResidentState.UNLOADING:
            self._replace(pod, resident, replace(resident, state=ResidentState.LOADED))
            return
        self._replace(pod, resident, None)
        adapter = self.adapters.get(resident.adapter or "")
        if adapter is not None and adapter.version == resident.version:
            excluded = {**pod.excluded, adapter.key: (Reason.LOAD_FAILED, "the engine answered 500")}
            self.pods[pod_key] = replace(self.pods[pod_key], excluded=excluded)

    def end_all(self) -> None:
        for pod_key, resident in self.in_flight():
            self.end(pod_key, resident)

    def serving(self, adapter: str) -> int:
        return sum(
            pod.ready
            and not pod.draining
            and any(r.adapter == adapter and r.owned and r.state is ResidentState.LOADED for r in pod.residents)
            for pod in self.pods.values()
        )

    def begin_all(self, plan: Plan) -> None:
        for action in plan.actions:
            self.begin(action)
