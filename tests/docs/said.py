"""What the programs can say to a user, read from the code: every reason for which something is, or is not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from lora_operator.artifacts import RefusedReason
from lora_operator.status.aggregate import DELETING, NO_MATCHING_PODS, NOT_ENOUGH_PODS
from lora_operator.status.scaling_events import OVERLOADED
from lora_operator.telemetry.reasons import KNOWN, OTHER
from lora_scheduler import Obstacle, Reason
from tests.delivery.reasons_in_code import PACKAGE, reasons
from tests.observability.test_events_page import declared, said_in_code

ROOT = Path(__file__).parents[2]
WORD = re.compile(r"[A-Z][a-z0-9]+([A-Z][a-z0-9]*)*")
# Where reasons are written as they are, and the other words there that look like one.
PLACES = (
    "planning/pod_readiness.py", "execution/readiness_gates.py", "informers/credentials.py", "picking/choosing.py",
    "picking/exchange.py", "picking/request_body.py", "router/absence.py", "router/usage_recorder.py",
    "router/derive.py", "router/entries.py", "status/aggregate.py", "status/change_events.py",
)  # fmt: skip
NO_REASONS = {"True", "False", "Secret", "SourceReady", "Normal", "Warning"}


def alerts() -> list[str]:
    """By name."""
    text = (ROOT / "helm" / "lora-operator" / "files" / "alerts.yaml").read_text()
    return [rule["alert"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@cache
def all_reasons() -> frozenset[str]:
    """Every one that status, Events, metrics, the log or an answer of the router can give."""
    found = {*KNOWN, OTHER, DELETING, NO_MATCHING_PODS, NOT_ENOUGH_PODS, OVERLOADED}
    found |= {one.value for one in (*Reason, *RefusedReason, *Obstacle)}
    found |= reasons() | {reason for _, reason in said_in_code()} | set(declared())
    return frozenset(found | set(_written()))


def _written() -> Iterator[str]:
    for place in PLACES:
        for node in ast.walk(ast.parse((PACKAGE / place).read_text())):
            word = node.value if isinstance(node, ast.Constant) else None
            if isinstance(word, str) and WORD.fullmatch(word) and word not in NO_REASONS:
                yield word
    tree = ast.parse((PACKAGE / "desired" / "adapters.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SourceState":
            yield from (str(one.value) for one in node.args[1:2] if isinstance(one, ast.Constant))
