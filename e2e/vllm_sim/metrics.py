"""vLLM's Prometheus text, as far as a controller or a router reads it."""

from __future__ import annotations

import time

from .core import EngineCore
from .generation_api import GenerationApi


class Metrics:
    """GET /metrics. `lora_requests_info` keeps every label set it ever had, as vLLM's gauge does."""

    def __init__(self, core: EngineCore, generation: GenerationApi) -> None:
        self._core = core
        self._generation = generation
        self._seen: dict[tuple[str, str], float] = {}

    def note_activity(self) -> None:
        """Call after every step."""
        running = [name for name, count in self._core.running.items() if count and name]
        waiting = [name for name, count in self._core.waiting.items() if count and name]
        if not self._core.settings.release.splits_running_and_waiting:
            running = waiting = list(dict.fromkeys(running + waiting))
        self._seen[(",".join(running), ",".join(waiting))] = time.time()

    def text(self) -> str:
        """The whole page."""
        core, release = self._core, self._core.settings.release
        labels = f'{{engine="0",model_name="{core.settings.served_names[0]}"}}'
        waiting = sum(core.waiting.values())
        lines = [
            *_sample("num_requests_running", "gauge", labels, core.requests_running),
            *_sample("num_requests_waiting", "gauge", labels, waiting),
        ]
        if release.counts_waiting_by_reason:
            lines.append("# TYPE vllm:num_requests_waiting_by_reason gauge")
            for reason, count in (("capacity", core.waiting[""]), ("deferred", waiting - core.waiting[""])):
                extra = f'{labels[:-1]},reason="{reason}"}}'
                lines.append(f"vllm:num_requests_waiting_by_reason{extra} {float(count)}")
        for gauge in release.kv_gauges:
            lines += _sample(gauge, "gauge", labels, min(1.0, core.requests_running / core.settings.max_num_seqs))
        lines += _sample("prefix_cache_queries_total", "counter", labels, core.cache.queries)
        lines += _sample("prefix_cache_hits_total", "counter", labels, core.cache.hits)
        lines += _sample("prompt_tokens_total", "counter", labels, self._generation.prompt_tokens)
        lines += _sample("generation_tokens_total", "counter", labels, self._generation.generated_tokens)
        finished = f'{labels[:-1]},finished_reason="length"}}'
        lines += _sample("request_success_total", "counter", finished, self._generation.finished)
        if self._core.settings.rust_frontend:
            return "\n".join([*lines, *self._of_rust()]) + "\n"
        if self._seen:
            lines.append("# TYPE vllm:lora_requests_info gauge")
        for (running, waiting_names), at in self._seen.items():
            lines.append(
                f'vllm:lora_requests_info{{max_lora="{core.settings.max_loras}",running_lora_adapters="{running}",'
                f'waiting_lora_adapters="{waiting_names}"}} {at!r}'
            )
        return "\n".join(lines) + "\n"

    def _of_rust(self) -> list[str]:
        """Of the moment alone, and without the number of slots."""
        running = ",".join(sorted(name for name, count in self._core.running.items() if count and name))
        waiting = ",".join(sorted(name for name, count in self._core.waiting.items() if count and name))
        if not running and not waiting:
            return []
        labels = f'running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        return ["# TYPE vllm:lora_requests_info gauge", f"vllm:lora_requests_info{{{labels}}} {time.time()!r}"]


def _sample(name: str, kind: str, labels: str, value: float) -> list[str]:
    family = name.removesuffix("_total") if kind == "counter" else name
    return [f"# TYPE vllm:{family} {kind}", f"vllm:{name}{labels} {float(value)}"]
