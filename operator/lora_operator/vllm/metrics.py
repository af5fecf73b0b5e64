"""Reads the few series of an engine's Prometheus page that say how busy it is, and with which adapters. Pure.

They show activity, never residency: what is loaded is in /v1/models alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

LORA_INFO = "vllm:lora_requests_info"
RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WAITING_BY_REASON = "vllm:num_requests_waiting_by_reason"
FINISHED = "vllm:request_success_total"  # by finished_reason and the base model's name, in every release
KV_CACHE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")  # since 0.12; until 0.10, which has both

_WANTED = (LORA_INFO, RUNNING, WAITING, FINISHED, *KV_CACHE)
_ADAPTERS = re.compile(r'(?:running|waiting)_lora_adapters="([^"\\]*)"')
LINES_MAX = 1000
MOMENTS_MAX = 256
LINE_MAX = 256 * 2**10
NAMES_MAX = 10_000
REASONS_MAX = 20
SERIES_MAX = 512  # characters of a name with its labels that are remembered


@dataclass(frozen=True, slots=True)
class Moment:
    """When exactly these adapters, by engine name, were last the busy ones; `at` by the engine's clock, in seconds."""

    at: float
    adapters: frozenset[str]


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """Load of one engine at one moment. None: the page does not say (as before the first request).

    `moments`: of each set of adapters that ever was busy together, the last time; newest first, the newest 256 of them.
    """

    requests_running: int | None = None
    requests_waiting: int | None = None
    waiting_by_reason: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    kv_cache_usage: float | None = None  # 0 to 1; of the fullest where one process has several engines
    active_adapters: frozenset[str] = frozenset()  # running or waiting, by engine name
    max_loras: int | None = None
    requests_finished: float | None = None  # since the engine started, with any adapter or none
    moments: tuple[Moment, ...] = ()


def parse_metrics(page: str) -> EngineMetrics:
    """Never raises: a line that cannot be read counts as absent.

    Counts are summed over the engines of one process (data parallelism). Of `lora_requests_info` the samples with the
    largest value count, as their value is the time they were set; running and waiting names are taken together.
    """
    counts: dict[str, float] = {}
    reasons: dict[str, float] = {}
    kv_cache: dict[str, float] = {}
    newest = -math.inf
    adapters: set[str] = set()
    max_loras: int | None = None
    lines = [line for line in _wanted_lines(page) if len(line) <= LINE_MAX]
    dated = [(_last_number(line), line) for line in lines if line.startswith(LORA_INFO)]
    for sample in _samples([line for line in lines if not line.startswith(LORA_INFO)], dated):
        value = float(sample.value)
        if not math.isfinite(value) or value < 0:
            continue
        if sample.name in (RUNNING, WAITING, FINISHED):
            counts[sample.name] = counts.get(sample.name, 0.0) + value
        elif sample.name == WAITING_BY_REASON:
            reason = sample.labels.get("reason", "")
            if reason in reasons or len(reasons) < REASONS_MAX:
                reasons[reason] = reasons.get(reason, 0.0) + value
        elif sample.name in KV_CACHE:
            kv_cache[sample.name] = max(kv_cache.get(sample.name, 0.0), value)
        elif sample.name == LORA_INFO and value >= newest:
            if value > newest:
                newest, adapters = value, set()
            adapters |= _names(sample, "running_lora_adapters") | _names(sample, "waiting_lora_adapters")
            max_loras = _whole(sample.labels.get("max_lora", "")) or max_loras
    return EngineMetrics(
        requests_running=_count(counts.get(RUNNING)),
        requests_waiting=_count(counts.get(WAITING)),
        waiting_by_reason=MappingProxyType({reason: int(min(n, 1e15)) for reason, n in sorted(reasons.items())}),
        kv_cache_usage=next((min(kv_cache[name], 1.0) for name in KV_CACHE if name in kv_cache), None),
        active_adapters=frozenset(sorted(adapters)[:NAMES_MAX]),
        max_loras=max_loras,
        requests_finished=counts.get(FINISHED),
        moments=_moments(dated),
    )


def _wanted_lines(page: str) -> Iterator[str]:
    """Searched for, as splitting a page of 2,000 lines would take longer than all else."""
    for start in _WANTED:
        at = page.find(start)
        while at >= 0:
            end = page.find("\n", at)
            end = len(page) if end < 0 else end
            if at == 0 or page[at - 1] == "\n":
                yield page[at:end]
            at = page.find(start, end)


def _moments(dated: Iterable[tuple[float, str]]) -> tuple[Moment, ...]:
    """All that the series of `lora_requests_info` tell: as none ever goes away, each keeps the last time it was so."""
    newest = sorted(dated, key=itemgetter(0), reverse=True)[:MOMENTS_MAX]
    return tuple(
        Moment(at, frozenset(name for found in _ADAPTERS.findall(line) for name in found.split(",") if name))
        for at, line in newest
        if at > 0
    )


def _samples(lines: Sequence[str], dated: Sequence[tuple[float, str]]) -> Iterator[Sample]:
    """The wanted samples. Each line is parsed on its own: a page of 2,000 lines has ten of interest, and one bad line
    must not hide the others."""
    # old series never go away: an engine that ran for long has thousands, and only the newest says something
    newest = max((at for at, _ in dated), default=-math.inf)
    infos = [line for at, line in dated if at == newest and at > -math.inf]
    for line in lines[:LINES_MAX]:
        yield from _counted(line)
    for line in infos[:LINES_MAX]:
        yield from _parsed(line)


def _last_number(line: str) -> float:
    try:
        value = float(line[line.rfind(" ") + 1 :])
    except ValueError:
        return -math.inf
    return value if math.isfinite(value) else -math.inf


def _counted(line: str) -> list[Sample]:
    """As `_parsed`: from one page to the next, and from one engine to another, only the number differs."""
    series, _, number = line.rpartition(" ")
    known = _series(series) if len(series) <= SERIES_MAX and "_" not in number else None
    if known is None:
        return _parsed(line)
    try:
        return [known._replace(value=float(number))]
    except ValueError:
        return _parsed(line)


@lru_cache(maxsize=1024)
def _series(series: str) -> Sample | None:
    """Its name and labels; None where a number alone does not make it a sample."""
    found = _parsed(f"{series} 0")
    return found[0] if len(found) == 1 and found[0].timestamp is None else None


def _parsed(line: str) -> list[Sample]:
    try:
        return [sample for family in text_string_to_metric_families(line + "\n") for sample in family.samples]
    except Exception:  # the parser raises whatever it stumbles over: ValueError, IndexError, KeyError
        return []


def _names(sample: Sample, label: str) -> set[str]:
    return {name for part in sample.labels.get(label, "").split(",")[:NAMES_MAX] if (name := part.strip())}


def _count(value: float | None) -> int | None:
    return None if value is None else int(min(value, 1e15))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
