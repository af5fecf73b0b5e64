"""What engines themselves say that they hold, as far as the user may ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lora_operator.informers.records import PodRecord
from lora_operator.plugin.reach import NoAnswer, Reach
from lora_operator.vllm.answers import parse_models, parse_version
from lora_operator.vllm.client import EngineModel

FORBIDDEN = 403
ALL_SECONDS = 20.0  # for the whole fleet: many that hang must not keep a person waiting
NAMED = 3


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine's answers."""

    release: str
    models: tuple[EngineModel, ...]


@dataclass(slots=True)
class Asked:
    """Engines by pod; of those that did not answer, status has the word, and a note says so."""

    engines: dict[str, Engine] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


async def ask_engines(reach: Reach, records: Mapping[str, PodRecord]) -> Asked:
    """Ask all engines that run; only one where that is forbidden."""
    running = [record for _, record in sorted(records.items()) if record.pod.container_running and record.pod.ip]
    answers = await _ask_all(reach, running[:1])
    if any(isinstance(answer, NoAnswer) and answer.status == FORBIDDEN for answer in answers):
        answers *= len(running)
    else:
        answers += await _ask_all(reach, running[1:])
    asked = Asked()
    silent: dict[str, list[str]] = {}
    for record, answer in zip(running, answers, strict=True):
        if isinstance(answer, Engine):
            asked.engines[record.key] = answer
        else:
            silent.setdefault(str(answer), []).append(record.pod.name)
    for why, names in silent.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        asked.notes.append(f"status tells what is on {', '.join(names[:NAMED])}{more}: {why}")
    return asked


async def _ask_all(reach: Reach, records: Sequence[PodRecord]) -> list[Engine | NoAnswer]:
    tasks = [asyncio.create_task(_ask(reach, record)) for record in records]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=ALL_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    return [NoAnswer("there was no answer in time") if task.cancelled() else task.result() for task in tasks]


async def _ask(reach: Reach, record: PodRecord) -> Engine | NoAnswer:
    try:
        models = parse_models(await reach.get(record.pod, record.pod.port, "/v1/models"))
        release = parse_version(await reach.get(record.pod, record.pod.port, "/version"))
    except NoAnswer as error:
        return error
    except ValueError as error:
        return NoAnswer(f"its answer is not vLLM's: {error}")
    return Engine(release, tuple(model for model in models if not model.is_base))
