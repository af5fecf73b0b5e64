"""Which of the jobs that wait a worker should take: POST /v1/match. Nothing is kept from one question to the next."""

from __future__ import annotations

from typing import Any

from lora_operator.router.picker import Picker
from lora_operator.router.problems import Problem
from lora_operator.router.table import RoutingTable
from lora_operator.router.wire import Job, KnownWorker, MatchRequest, StatedWorker
from lora_scheduler.routing import (
    Endpoint,
    EngineLoad,
    Holding,
    Match,
    Pending,
    PullRules,
    RoutingRequest,
    match,
)

NOW = 0.0  # jobs say how long they have waited, so that no two clocks have to agree


def best_job(table: RoutingTable, picker: Picker, asked: MatchRequest) -> tuple[Endpoint, Match | None]:
    """Who asks, and what to take; None where no job is anything for it. Raises Problem."""
    worker = _known(picker, asked.worker) if isinstance(asked.worker, KnownWorker) else _stated(asked.worker)
    pending = [_pending(table, worker, asked.worker.namespace, job) for job in asked.jobs]
    pending.sort(key=lambda one: one.since)
    rules = PullRules(len(pending) or 1, asked.fair_seconds, picker.rules.weights)
    return worker, match(worker, pending, now=NOW, rules=rules)


def match_json(worker: Endpoint, found: Match | None, version: str) -> dict[str, Any]:
    """The model MatchAnswer."""
    if found is None:
        return {"job": None, "version": version}
    names = {one.adapter: one.engine_name for one in worker.holdings if one.adapter in found.pending.ask.adapters}
    return {
        "job": found.pending.key,
        "score": round(found.score, 3),
        "overdue": found.overdue,
        "engineNames": {adapter.partition("/")[2]: name for adapter, name in names.items()},
        "missing": [adapter.partition("/")[2] for adapter in found.missing],
        "version": version,
    }


def _known(picker: Picker, said: KnownWorker) -> Endpoint:
    endpoint = picker.index.endpoint(f"{said.namespace}/{said.pod}")
    if endpoint is None:
        text = f"pod {said.pod} of namespace {said.namespace} answers for no adapter and has no room for one now"
        raise Problem("unknown-worker", f"{text}; say what it holds instead (baseModel, adapters)")
    return endpoint


def _stated(said: StatedWorker) -> Endpoint:
    holdings = tuple(Holding(f"{said.namespace}/{name}", name) for name in said.adapters)
    load = EngineLoad(NOW, running_adapters=frozenset(said.running), max_loras=said.max_loras)
    return Endpoint(
        "", "", f"{said.namespace}/{said.base_model}", holdings, host_slots=len(holdings) + said.free_slots, load=load
    )


def _pending(table: RoutingTable, worker: Endpoint, namespace: str, job: Job) -> Pending:
    keys = tuple(f"{namespace}/{name}" for name in (*job.adapters, *job.shared))
    model = f"{namespace}/{job.base_model}" if job.base_model else worker.base_model
    if not job.base_model:  # of what the worker lacks, the table may know what it is for
        held = {one.adapter for one in worker.holdings}
        lacking = (table.get(namespace, key.partition("/")[2]) for key in keys if key not in held)
        model = next((f"{namespace}/{entry.base_model}" for entry in lacking if entry is not None), model)
    shared = frozenset(f"{namespace}/{name}" for name in job.shared)
    ask = RoutingRequest(keys, model, may_load=job.may_load, shared=shared)
    return Pending(job.key, ask, model, NOW - job.waited_seconds)
