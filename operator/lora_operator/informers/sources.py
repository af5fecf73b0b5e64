"""Keeps each LoraAdapter's source resolved: what adapters there are, their fingerprints, and what is wrong with them.

One small task per resource asks its source at a jittered interval, at once when the spec changes or somebody sets the
refresh annotation. A source that fails keeps its last good answer: files that are gone unload nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from lora_operator.api.v1alpha1 import BaseModelCheck, LoraAdapterSpec
from lora_operator.artifacts import BaseModelShape
from lora_operator.artifacts.base_name import UNKNOWN_MODEL
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.credentials import CredentialState
from lora_operator.informers.records import Resource
from lora_operator.process.backoff import doubled
from lora_operator.sources import Credentials, FoundAdapter, Resolution, Source, SourceError, SourceRequest
from lora_operator.sources.selection import passes

log = logging.getLogger(__name__)
Model = tuple[str, str]  # namespace, base model

CHECKS_PER_SECOND = 20.0
FIRST_RETRY_SECONDS = 1.0
SLOWEST = 6  # how much longer than the regular interval a source that keeps failing is left alone
MOST_PATIENT_SECONDS = 3600.0  # whatever a store asks for
MOST_ALIASES = 64  # of one base model
NO_ALIASES: frozenset[str] = frozenset()
PLACE = ("type", "repository", "revision", "endpoint", "region")  # a request that differs here is about other files


@dataclass(frozen=True, slots=True)
class SourceView:
    """What is known of one resource's source. `checked` is false until it was asked for this very request."""

    request: SourceRequest
    resolution: Resolution | None = None
    error: SourceError | None = None
    checked: bool = False


class Resolver:
    """Looks after one task per resource; `changed` is called when a view says something new."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        changed: Callable[[], None],
        *,
        interval_seconds: float,
        base_shapes: Mapping[str, BaseModelShape],
    ) -> None:
        self._sources = sources
        self._changed = changed
        self._interval = interval_seconds
        self._shapes = base_shapes
        self.views: dict[str, SourceView] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._seen: dict[str, tuple[str, str]] = {}
        self._aliases: dict[Model, frozenset[str]] = {}
        self._followed: dict[str, tuple[Resource, frozenset[str], CredentialState | None]] = {}
        self._answered = asyncio.Event()
        self._blocked: dict[str, SourceError | None] = {}  # why the Secret of a resource cannot be used

    def sync_targets(
        self,
        resources: Iterable[Resource],
        served: Iterable[tuple[str, tuple[str, ...]]] = (),
        credentials: Mapping[str, CredentialState] = MappingProxyType({}),
    ) -> None:
        """Keep exactly these resources' sources resolved from now on.

        `credentials` are those of the resources that name a Secret; nothing is asked while one is just being read.
        `served` are the namespaces of pods and the names that each serves its base model under. What was once another
        name of a model stays one: a pod that goes does not make its adapters foreign.
        """
        wanted = {r.key: r for r in resources if r.spec is not None and r.deleted_at is None}
        models = {(r.namespace, r.spec.base_model) for r in wanted.values() if r.spec is not None}
        self._aliases = _aliases(self._aliases, served, models)
        for key in [key for key in self.views if key not in wanted]:
            del self.views[key]
            self._followed.pop(key, None)
            if key in self._tasks:
                self._drop(key)
        for key, resource in wanted.items():
            assert resource.spec is not None
            aliases = self._aliases[resource.namespace, resource.spec.base_model]
            secret = credentials.get(key)
            before = self._followed.get(key)
            if before is not None and before[0] is resource and before[1] is aliases and before[2] is secret:
                continue  # as in nearly every round
            request = request_of(resource.spec, self._shapes, aliases, secret.credentials if secret else None)
            if secret is not None and secret == CredentialState():
                self._await_secret(key, resource, request)
                continue
            mark = (resource.uid, resource.refresh)
            if key not in self._tasks:
                self.views[key] = SourceView(request)
                self._wakes[key] = asyncio.Event()
                self._tasks[key] = asyncio.create_task(self._keep(key), name=f"source {key}")
                self._blocked[key] = secret.error if secret else None
            elif self.views[key].request != request and self._seen[key][0] != resource.uid:
                self.views[key] = SourceView(request)  # another resource that has the name by now
                self._wakes[key].set()
            elif self.views[key].request != request:
                # what the old request found stays in force until the new one has an answer
                self.views[key] = replace(self.views[key], request=request, checked=False)
                self._wakes[key].set()
            elif self._seen[key] != mark or str(self._blocked.get(key)) != str(secret.error if secret else None):
                self._wakes[key].set()
            self._blocked[key] = secret.error if secret else None
            self._seen[key] = mark
            self._followed[key] = (resource, aliases, secret)

    def _await_secret(self, key: str, resource: Resource, request: SourceRequest) -> None:
        """Show the resource as one whose source is being read; what was found for it before stays in force."""
        self._followed.pop(key, None)
        known = self.views.get(key)
        if known is None:
            self.views[key] = SourceView(request)
        if key in self._tasks and self._seen[key][0] != resource.uid:
            self._drop(key)
            self.views[key] = SourceView(request)

    def _drop(self, key: str) -> None:
        self._tasks.pop(key).cancel()
        del self._wakes[key], self._seen[key]
        self._blocked.pop(key, None)

    async def first_reads(self, timeout: float) -> None:
        """Wait until every source was asked once (or the time is over)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for key in list(self.views):
                    while (view := self.views.get(key)) is not None and not view.checked:
                        self._answered.clear()
                        await self._answered.wait()

    async def locate(self, resource: str, found: FoundAdapter) -> Path | FetchManifest:
        """Where the files of this version can be had now. Raises SourceError."""
        view = self.views.get(resource)
        if view is None:
            raise SourceError("SourceGone", f"LoraAdapter {resource} is not there any more", retryable=False)
        blocked = self._blocked.get(resource)
        if blocked is not None:
            raise blocked.with_traceback(None)
        return await self._sources[view.request.type].locate(view.request, found)

    def failing(self) -> set[str]:
        """The resources whose sources do not answer as they should."""
        return {key for key, view in self.views.items() if view.error is not None}

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, key: str) -> None:
        asked: SourceRequest | None = None
        failures = 0
        while True:
            wake = self._wakes[key]
            wake.clear()
            view = self.views[key]
            request = view.request
            previous = _still_asked_for(view.resolution, asked, request)
            try:
                blocked = self._blocked.get(key)
                if blocked is not None:
                    raise blocked.with_traceback(None)
                resolution = await self._sources[request.type].resolve(request, previous)
                found = SourceView(request, resolution, None, checked=True)
                failures = 0
            except SourceError as error:
                found = SourceView(request, view.resolution, error, checked=True)
                failures += 1
            except Exception as error:
                log.exception("resolving the source of %s failed unexpectedly", key)
                # the text of an unknown error may hold anything, and status is for everybody
                text = f"{type(error).__name__} in the operator: see its log, and please report it"
                wrapped = SourceError("InternalError", text, retryable=True)
                found = SourceView(request, view.resolution, wrapped, checked=True)
                failures += 1
            asked = request
            if self.views[key].request == request:
                news = not _same(self.views[key], found)
                self.views[key] = found
                self._answered.set()
                if news:
                    self._tell(key, found)
                    self._changed()
            try:
                async with asyncio.timeout(self._delay(failures, found)):
                    await wake.wait()
            except TimeoutError:
                pass

    @staticmethod
    def _tell(key: str, found: SourceView) -> None:
        """For whoever is on call: what status says of the source, in the log as well."""
        fields = {"resource": key}
        if found.error is not None:
            log.warning("source of %s: %s: %s", key, found.error.reason, found.error, extra=fields)
        for item in found.resolution.broken if found.resolution is not None else ():
            log.warning("source of %s: %r: %s: %s", key, item.name, item.reason, item.message, extra=fields)
        for good in found.resolution.adapters if found.resolution is not None else ():
            for doubt in good.inspection.doubts:
                log.warning("source of %s: %r may be wrong, and is served: %s", key, good.name, doubt, extra=fields)
        log.debug("source of %s resolved", key, extra=fields)

    def _delay(self, failures: int, found: SourceView) -> float:
        resolution, error = found.resolution, found.error
        interval = max(self._interval, len(self._tasks) / CHECKS_PER_SECOND)
        if error is not None:
            # beyond the interval, too: a source that fails for long costs more than one that answers
            seconds = doubled(FIRST_RETRY_SECONDS, failures - 1, interval * SLOWEST)
            wished = min(error.retry_after_seconds or 0.0, MOST_PATIENT_SECONDS)
            return max(seconds, wished) * random.uniform(1.0, 1.1)
        if resolution is not None and resolution.recheck_after_seconds is not None:
            return min(interval, max(resolution.recheck_after_seconds, 0.05))
        return interval * random.uniform(0.9, 1.1)


def _still_asked_for(
    resolution: Resolution | None, asked: SourceRequest | None, request: SourceRequest
) -> Resolution | None:
    """What a source need not read again, or may keep: the last answer, as far as `request` is about the same place."""
    if resolution is None or asked is None or asked == request:
        return resolution if asked is not None else None
    if any(getattr(asked, field) != getattr(request, field) for field in PLACE):
        return None

    def passed(name: str) -> bool:
        return passes(name, request.pattern, request.prefix, request.adapters)

    return Resolution(
        tuple(item for item in resolution.adapters if passed(item.name)),
        tuple(item for item in resolution.broken if passed(item.name)),
        tuple(item for item in resolution.stale if passed(item.name)),
    )


def _aliases(
    before: Mapping[Model, frozenset[str]], served: Iterable[tuple[str, tuple[str, ...]]], models: Collection[Model]
) -> dict[Model, frozenset[str]]:
    """The names of the base models that anybody wants, as pods serve them now, and those of before as far as there is
    room for them. What did not change stays the same object."""
    now: dict[Model, set[str]] = {model: set() for model in models}
    for namespace, names in served:
        for name in names:
            if (namespace, name) in now:
                now[namespace, name].update(names)
    found: dict[Model, frozenset[str]] = {}
    for model, names_now in now.items():
        known = before.get(model, NO_ALIASES)
        learnt = bool(names_now) and UNKNOWN_MODEL in known - names_now
        if learnt or not names_now <= known:
            kept = known - names_now - ({UNKNOWN_MODEL} if learnt else set())
            known = frozenset([*sorted(names_now), *sorted(kept)][:MOST_ALIASES])
        found[model] = known
    return found


def request_of(
    spec: LoraAdapterSpec,
    shapes: Mapping[str, BaseModelShape],
    aliases: Collection[str] = (),
    credentials: Credentials | None = None,
) -> SourceRequest:
    """The part of a spec that says what to look for."""
    source = spec.adapter_source
    return SourceRequest(
        type=source.type.value,
        repository=source.repository,
        revision=source.revision,
        endpoint=source.endpoint,
        region=source.region,
        pattern=source.pattern,
        prefix=source.prefix,
        adapters=source.adapters,
        max_adapters=source.max_adapters,
        base_model=spec.base_model,
        base=shapes.get(spec.base_model),
        base_aliases=tuple(sorted(set(aliases) - {spec.base_model})),
        credentials=credentials,
        served_name=spec.served_name,
        compares_names=spec.base_model_check is BaseModelCheck.NAME,
    )


def _same(one: SourceView, other: SourceView) -> bool:
    """Compare errors by what they say, since exceptions compare by identity."""
    return (
        one.request == other.request
        and one.checked == other.checked
        and one.resolution == other.resolution
        and str(one.error) == str(other.error)
    )
