"""What the tests of the ways ask for: a wanted adapter whose files a store has, and pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lora_operator.desired.adapters import DesiredAdapter, desired
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.records import PodRecord
from tests.core.builders import a_pod, a_resource, a_source, found
from tests.fetch.ordered import Case


def a_wish(case: Case, *, known: bool = True) -> DesiredAdapter:
    """The case's adapter; not `known`: its source cannot be read now."""
    resource = a_resource()
    adapter = found(case.order.name, case.order.fingerprint, size=case.order.size_bytes)
    (wanted,) = desired([resource], {resource.key: a_source(resource, adapter)}).adapters.values()
    return wanted if known else replace(wanted, found=None)


def a_pod_with_an_agent(port: int, name: str = "p0") -> PodRecord:
    record = a_pod(name)
    return replace(record, pod=replace(record.pod, ip="127.0.0.1", agent_port=port))


class Located:
    """Gives orders, and counts how often; a folder if it is given one."""

    def __init__(self, *answers: FetchManifest | Path) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, wanted: DesiredAdapter) -> FetchManifest | Path:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
