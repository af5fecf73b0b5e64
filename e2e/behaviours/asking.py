"""Asks for adapters that are loaded on demand, as routers and their clients do."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from e2e.world import OperatorProcess, World
from e2e.world.world import SYSTEM_NAMESPACE
from lora_operator.api.usage_record import CONFIG_MAP, entry_of

RECORD = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{CONFIG_MAP}"


def record(world: World, *names: str, ago: timedelta = timedelta()) -> None:
    """What a router writes when somebody asks for these adapters."""
    at = datetime.now(UTC) - ago
    world.rest.patch(RECORD, {"data": dict(entry_of(world.namespace, name, at) for name in names)})


def pick(world: World, operator: OperatorProcess | None, adapter: str, seconds: float = 0.0) -> tuple[int, Any]:
    """Ask this operator's router API; (status, body)."""
    assert operator is not None
    return pick_at(f"http://127.0.0.1:{operator.router_port}", world, adapter, seconds)


def pick_at(url: str, world: World, adapter: str, seconds: float = 0.0) -> tuple[int, Any]:
    """Ask the router API that answers there; (status, body)."""
    request = urllib.request.Request(
        f"{url}/v1/pick",
        json.dumps({"namespace": world.namespace, "adapter": adapter, "waitSeconds": seconds}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds + 10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
