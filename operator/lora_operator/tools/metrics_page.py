"""Writes docs/metrics.md from the registries: python -m lora_operator.tools.metrics_page [--check] docs/metrics.md

A label that is not told of here is refused, so that nobody adds one without knowing its values.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry

from lora_library.metrics import BANDS, METHODS, LibraryMetrics
from lora_library.problems import CODES
from lora_operator.agent.metrics import AgentMetrics
from lora_operator.cache.metrics import FilesMetrics
from lora_operator.cache.victims import Why
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import Kube
from lora_operator.picking.metrics import RESULTS, STARTS, PickerMetrics
from lora_operator.planning.expected_load import MODELS_MAX, OTHERS
from lora_operator.process.event_loop import Blocks
from lora_operator.router.api import RouterApi
from lora_operator.router.serving import Router
from lora_operator.router.traffic import DEFECT, NO_LOAD, OK
from lora_operator.status.aggregate import NO_MATCHING_PODS, NOT_ENOUGH_PODS
from lora_operator.telemetry.metrics import ADAPTER_STATES, Metrics, ModelLoad
from lora_operator.telemetry.reasons import KNOWN, OF_ENGINES, OTHER
from lora_operator.tools.generated import write_or_check
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Reason, UnloadCause

WHERE = {
    "The operator": "port 8080 (`--metrics-port`)",
    "The router": "the port of the router API (`--port`, in `run` `--router-port`)",
    "The endpoint picker": "the port of the router API, where there is a picker (`--picker-port`)",
    "The agent": "port 8090 (`--port`), without the token",
    "The user library": "port 8080 (`--metrics-port`)",
}
# what each registry has beside ours, from the client library
USUAL = ("process_", "python_")


class UntoldLabel(Exception):
    """A metric has a label of which nobody knows the values."""


@dataclass(frozen=True, slots=True)
class Values:
    """What a label can be: one of `named`, or what `pattern` matches. `text` says so in short where they are many."""

    named: frozenset[str] = frozenset()
    pattern: str = ""
    text: str = ""

    def allow(self, value: str) -> bool:
        return value in self.named or bool(self.pattern and re.fullmatch(self.pattern, value))

    def shown(self) -> str:
        return self.text or ", ".join(f"`{value}`" for value in sorted(self.named))


def _named(*values: str) -> Values:
    return Values(frozenset(values))


REASON = Values(KNOWN | {OTHER}, text="a [reason](#reasons)")
RESULT = Values(KNOWN | {OTHER, "ok"}, text="`ok` or a [reason](#reasons)")
BASE_MODEL = Values(
    frozenset({OTHERS}), pattern=".*", text=f"names of base models: the {MODELS_MAX} with most demand, and `{OTHERS}`"
)
PLACEMENT = Values(
    frozenset({*(each.value for each in Reason), NO_MATCHING_PODS, NOT_ENOUGH_PODS}),
    text="why no pod takes it: a [reason of placement](#reasons)",
)
STATUS = Values(pattern="[1-5][0-9][0-9]", text="HTTP status")
PREFIX = "lora_operator_"


def _labels(routes: Iterable[str]) -> dict[tuple[str, str], Values]:
    """Every label of every metric, by their names without lora_operator_."""
    return {
        ("loads_total", "result"): RESULT,
        ("unloads_total", "cause"): _named(*(each.value for each in UnloadCause)),
        ("unloads_total", "result"): RESULT,
        ("pods", "state"): _named(*(each.value for each in EngineState)),
        ("adapters", "state"): _named(*ADAPTER_STATES),
        ("unplaced_copies", "reason"): PLACEMENT,
        ("status_writes_total", "result"): _named("ok", "error"),
        ("endpoint_writes_total", "result"): _named("ok", "error"),
        ("demand_requests_per_second", "base_model"): BASE_MODEL,
        ("pod_load_imbalance_ratio", "base_model"): BASE_MODEL,
        ("fetch_retries_total", "reason"): REASON,
        ("fetches_total", "result"): RESULT,
        ("cache_evictions_total", "cause"): _named(*(each.value for each in Why)),
        ("cache_versions", "state"): _named("all", "in_use", "pinned", "prefetched"),
        ("router_requests_total", "route"): _named(*routes, "other"),
        ("router_requests_total", "status"): STATUS,
        ("router_pods", "load"): _named("fresh", "stale"),
        ("router_load_looks_total", "result"): _named(OK, NO_LOAD, DEFECT, *OF_ENGINES),
        ("router_selections_total", "method"): _named("auto", "keywords", "semantic"),
        ("router_prompt_blocks_total", "cached"): _named("no", "yes"),
        ("router_score", "by"): _named("match", "pick"),
        ("router_selections_total", "chosen"): _named("adapter", "base"),
        ("picker_requests_total", "result"): _named(*RESULTS),
        ("picker_seconds", "start"): _named(*STARTS),
        ("library_uploads_total", "result"): Values(
            frozenset({"ok", *CODES}), text="`ok` or a [code](library.md#the-api) of a problem"
        ),
        ("library_owners", "used"): _named(*BANDS.values()),
        ("library_requests_total", "method"): _named(*METHODS, "other"),
        ("library_requests_total", "status"): STATUS,
        ("router_streams_ended_total", "reason"): _named("ClientGone", "Stopping", "TooSlow"),
    }


@dataclass(frozen=True, slots=True)
class Row:
    """One metric as it is shown."""

    name: str
    kind: str
    labels: Mapping[str, Values]
    text: str

    @property
    def unit(self) -> str:
        """From the name, as Prometheus' rules for names want it there."""
        for ending, unit in (
            ("_timestamp_seconds", "Unix time, seconds"),
            ("_per_second", "per second"),
            ("_seconds", "seconds"),
            ("_bytes", "bytes"),
            ("_bytes_total", "bytes"),
            ("_ratio", "ratio"),
        ):
            if self.name.endswith(ending):
                return unit
        return "number"


def rows_of(registry: CollectorRegistry, labels: Mapping[tuple[str, str], Values]) -> list[Row]:
    """Ours, by name. Raises UntoldLabel."""
    found = []
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            if family.name.startswith(USUAL):
                continue
            name = family.name + ("_total" if family.type == "counter" else "")
            # samples show labels only once there are any
            keys: Iterable[str] = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            found.append(Row(name, family.type, {key: _told(name, key, labels) for key in keys}, family.documentation))
    return sorted(found, key=lambda row: row.name)


def _told(name: str, label: str, labels: Mapping[tuple[str, str], Values]) -> Values:
    try:
        return labels[name.removeprefix(PREFIX), label]
    except KeyError:
        raise UntoldLabel(
            f"{name} has a label {label!r} whose values are not listed: add them to tools/metrics_page.py; if "
            "they are without end (names of adapters, pods, tenants), leave the label out"
        ) from None


def registries() -> dict[str, CollectorRegistry]:
    """By program, all that it shows."""
    metrics = Metrics()
    FilesMetrics(metrics.registry)
    Blocks().show_in(metrics.registry)
    metrics.watch_loads(lambda: {"base": ModelLoad(0.0, 1.0)})
    picker = CollectorRegistry()
    PickerMetrics(picker, lambda: 0.0, lambda: 0.0)
    return {
        "The operator": metrics.registry,
        "The router": _router().metrics.registry,
        "The endpoint picker": picker,
        "The agent": AgentMetrics().registry,
        "The user library": LibraryMetrics().registry,
    }


def _router() -> RouterApi:
    return Router(Cluster(PodDefaults()), cast(Kube, None)).api


def labels() -> dict[tuple[str, str], Values]:
    """Every label of every metric: (name without lora_operator_, label) -> what it can be."""
    routes = {one.canonical for one in _router().application().router.resources()}
    return _labels(routes - {"/{tail}"})


def programs() -> dict[str, list[Row]]:
    """By program, its metrics. Raises UntoldLabel."""
    told = labels()
    return {title: rows_of(registry, told) for title, registry in registries().items()}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, rows in programs().items():
        parts.append(f"## {title}\n`/metrics` on {WHERE[title]}.\n")
        parts.append("| metric | type, unit | labels | meaning |\n|---|---|---|---|")
        parts += [_line(row) for row in rows]
        parts.append("")
    wrapped = {title: ", ".join(f"`{value}`" for value in sorted(values)) for title, values in (
        ("of loads, unloads and fetches", KNOWN | {OTHER}), ("of placement", PLACEMENT.named),
    )}  # fmt: skip
    parts.append("## Reasons\nA reason has series once it has occurred.\n")
    parts += [f"**Reasons {title}**: {text}.\n" for title, text in wrapped.items()]
    return "\n".join(parts).rstrip() + "\n"


def _line(row: Row) -> str:
    labels = "; ".join(f"`{name}`: {values.shown()}" for name, values in row.labels.items())
    return f"| `{row.name}` | {row.kind}, {row.unit} | {labels} | {row.text} |"


HEAD = """\
# Metrics

Written by `make metrics` from the registries: change the code, not this file.

Operator, router and agents serve Prometheus' text format. Names follow Prometheus' rules: base units, `_total` for
counters. No label is the name of an adapter, pod or tenant, and each has the values that are listed here, no others:
what an agent says beyond the known reasons counts as `Other`. A histogram `x` has the series `x_bucket` (label `le`),
`x_sum` and `x_count`; each counter and histogram also has `x_created`, the Unix time at which it began. Beside what is
listed here each program has the usual `process_*` and `python_*`.

In the chart: `metrics.serviceMonitor.enabled` has the Prometheus operator scrape operator and routers,
`metrics.prometheusRule.enabled` brings the alerts (`docsUrl`: where their runbook is served), and
`metrics.dashboard.enabled` a Grafana dashboard (`helm/lora-operator/files`); agents: `podMonitor` of the chart
`vllm-lora`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """See `write_or_check`."""
    return write_or_check(
        arguments,
        page,
        module="lora_operator.tools.metrics_page",
        text=__doc__ or "",
        source="registries",
        target="metrics",
    )


if __name__ == "__main__":
    sys.exit(main())
