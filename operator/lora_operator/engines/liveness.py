"""What is believed of an engine after a probe of it. Pure: a view, and what a probe said, give the next view.

Two kinds of silence are told apart, as a kubelet tells them. Nobody listens: the process is gone, and all that it held
with it; one refused connection can be an accident on the way, two in a row are none. No answer: the engine may be well
and busy, or the way to it broken, so that it keeps what it has until it has missed several probes in a row and some
time has passed. Where most engines are silent at once, or refuse connections, and their kubelets find them ready, the
way from this operator is broken (a NetworkPolicy that drops or rejects, a mesh, an operator without processor time):
they serve, and keep what they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from lora_operator.informers.records import PodRecord
from lora_operator.vllm.answers import EngineModel
from lora_operator.vllm.engine_state import EngineState
from lora_operator.vllm.errors import EngineError, EngineSleeping, EngineTimeout, EngineUnreachable, ModelListTooLong

REFUSALS = 2  # in a row, until it is certain that nobody listens
WITNESSES = 3  # that are asked whether they refuse connections as well


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When an engine that does not answer counts as down: after `failures` missed probes in a row, and not before it
    has been silent for `hold_seconds`."""

    failures: int
    hold_seconds: float


@dataclass(frozen=True, slots=True)
class EngineView:
    """An engine at its last probe. `models` is only meaningful for UP, SUSPECT and DOWN. `since` is monotonic time."""

    instance: str
    state: EngineState = EngineState.UNKNOWN
    release: str = ""  # empty until this container instance has answered this operator
    models: tuple[EngineModel, ...] = ()
    bases: tuple[EngineModel, ...] = ()  # its base model, once for each name that it is served under
    since: float = 0.0
    error: str = ""
    reason: str = ""
    has_served: bool = False  # it has once had all that was planned for it, so it may be serving
    lora_disabled: str = ""  # it has no routes to load adapters, which only a restart can change
    misses: int = field(default=0, compare=False)  # probes in a row without an answer
    refusals: int = field(default=0, compare=False)  # connections in a row that were refused
    silent_since: float = field(default=0.0, compare=False)  # the first of the misses
    _by_name: dict[str, EngineModel] = field(default_factory=dict, init=False, repr=False, compare=False)

    def listed(self, name: str) -> EngineModel | None:
        return self._names().get(name)

    def with_model(self, model: EngineModel) -> EngineView:
        """After a load: last of all, in place of what had its name."""
        names = {**self._names()}
        names.pop(model.name, None)
        return self._holding({**names, model.name: model})

    def without_model(self, name: str) -> EngineView:
        """After an unload."""
        names = {**self._names()}
        names.pop(name, None)
        return self._holding(names)

    def _names(self) -> dict[str, EngineModel]:
        """By name; of two that have the same the first counts."""
        if self.models and not self._by_name:
            for model in self.models:
                self._by_name.setdefault(model.name, model)
        return self._by_name

    def _holding(self, names: dict[str, EngineModel]) -> EngineView:
        """Where hundreds are loaded one after the other, each load has to cost the same."""
        view = replace(self, models=tuple(names.values()))
        view._by_name.update(names)
        return view

    @property
    def keeps(self) -> bool:
        """Whether what it lists counts as being there: it answers, or has only missed few probes."""
        return self.state in (EngineState.UP, EngineState.SUSPECT)


def instance_of(record: PodRecord) -> str:
    """Names one life of one container: another value means that the engine has forgotten everything."""
    return f"{record.uid}/{record.pod.container_id or ''}"


def assumed(record: PodRecord, models: Iterable[EngineModel], now: float) -> EngineView:
    """What a new operator believes of a pod that status names: it has what status says until probes say otherwise."""
    return EngineView(instance_of(record), EngineState.SUSPECT, models=tuple(models), since=now)


def answered(
    view: EngineView,
    release: str,
    adapters: tuple[EngineModel, ...],
    now: float,
    bases: tuple[EngineModel, ...] | None = None,
) -> EngineView:
    """After an answer. An engine that was up and lists nothing at all any more has restarted inside its container."""
    has_served = view.has_served and bool(adapters or not view.models)
    since = view.since if view.state is EngineState.UP else now
    bases = view.bases if bases is None or bases == view.bases else bases
    return replace(
        view, state=EngineState.UP, release=release, models=adapters, bases=bases, since=since, error="", reason="",
        has_served=has_served, misses=0, refusals=0, silent_since=0.0,
    )  # fmt: skip


def missed(
    view: EngineView, error: EngineError, now: float, thresholds: Thresholds, *, vouched: bool | None = False
) -> EngineView:
    """After a probe that failed. `vouched`: that tells more of this operator than of the engine, see `vouched_for`;
    None: that is about to be known."""
    if isinstance(error, EngineUnreachable) and error.refused and not (vouched and view.keeps):
        return _refused(view, error, now, undecided=vouched is None)
    if isinstance(error, EngineSleeping):  # certain, and not for a moment: it serves nobody
        since = view.since if view.state is EngineState.DOWN else now
        return replace(view, state=EngineState.DOWN, since=since, error=str(error), reason=error.reason, refusals=0)
    too_long = isinstance(error, ModelListTooLong)  # it answers, and goes on serving what it has
    goes_on = view.misses and too_long is (view.reason == ModelListTooLong.reason)
    view = replace(
        view, error=str(error), reason=error.reason, misses=view.misses + 1 if goes_on else 1, refusals=0,
        silent_since=view.silent_since if goes_on else now,
    )  # fmt: skip
    silent_long = view.misses >= thresholds.failures and now - view.silent_since >= thresholds.hold_seconds
    match view.state:
        case EngineState.DOWN:
            return view
        case EngineState.UP | EngineState.SUSPECT:
            kept = vouched and isinstance(error, EngineTimeout | EngineUnreachable)
            if silent_long and not kept and not too_long:
                return replace(view, state=EngineState.DOWN, since=now)
            since = now if view.state is EngineState.UP else view.since
            return replace(view, state=EngineState.SUSPECT, since=since)
        case _:  # it has never answered, so that nothing is taken from it; who says no clearly need not be waited for
            clear = not isinstance(error, (EngineTimeout, EngineUnreachable))
            return replace(view, state=EngineState.DOWN, since=now) if clear or silent_long else view


def vouched_for(
    key: str, views: Mapping[str, EngineView], records: Mapping[str, PodRecord], heard_at: Mapping[str, float]
) -> bool:
    """Whether the kubelet finds this pod ready, and of the pods of which that is so more are silent than have answered
    since this one fell silent: as with nodes, it is not likely that most have failed at once. `heard_at`: when each
    answered last."""
    if not records[key].pod.probed_ready:
        return False
    ready = [other for other, record in records.items() if record.pod.probed_ready and other in views]
    silent = [other for other in ready if views[other].misses]
    since = views[key].silent_since
    answering = sum(heard_at.get(other, since) > since for other in ready if not views[other].misses)
    return len(silent) > answering


def refusal_vouched_for(
    key: str, views: Mapping[str, EngineView], records: Mapping[str, PodRecord], heard_at: Mapping[str, float]
) -> bool | None:
    """As `vouched_for`, of a connection that was refused, where one pod's kubelet may simply be late: others have to
    be silent as well. None where nobody has been heard since, so that `witnesses` have to be asked."""
    if not vouched_for(key, views, records, heard_at):
        return False
    if any(other != key and views[other].misses and record.pod.probed_ready for other, record in _seen(views, records)):
        return True
    return None if witnesses(key, views, records) else False


def witnesses(key: str, views: Mapping[str, EngineView], records: Mapping[str, PodRecord]) -> list[str]:
    """Others who are as well as this one was."""
    fit = (
        other
        for other, record in _seen(views, records)
        if other != key and record.pod.probed_ready and views[other].state is EngineState.UP
    )
    return list(islice(fit, WITNESSES))


def _seen(views: Mapping[str, EngineView], records: Mapping[str, PodRecord]) -> Iterable[tuple[str, PodRecord]]:
    return ((key, record) for key, record in records.items() if key in views)


def _refused(view: EngineView, error: EngineUnreachable, now: float, *, undecided: bool) -> EngineView:
    text, refusals = str(error), view.refusals + 1
    if view.state is EngineState.STARTING:
        return replace(view, error=text, reason=error.reason, misses=0, refusals=refusals)
    if view.models and (refusals < REFUSALS or undecided):
        since = now if view.state is EngineState.UP else view.since
        state = EngineState.DOWN if view.state is EngineState.DOWN else EngineState.SUSPECT
        return replace(
            view, state=state, since=since, error=text, reason=error.reason, misses=view.misses + 1, refusals=refusals,
            silent_since=view.silent_since if view.misses else now,
        )  # fmt: skip
    # whatever the engine held is gone with its process
    return EngineView(
        view.instance, EngineState.STARTING, since=now, error=text, reason=error.reason, refusals=refusals
    )
