"""The reasons that the code can give for a failure of a source, a fetch, the cache or an agent: read from the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "operator" / "lora_operator"
FOLDERS = ("sources", "fetch", "cache", "delivery", "agent", "agent_api")
_REASON = re.compile(r"[A-Z][a-z0-9]+([A-Z][a-z0-9]*)*")
# what only a caller of the agent's API is told, never a status
OF_THE_API = frozenset({"BadRequest", "Unauthorized", "TokenUnavailable", "InUse", "Pinned", "InvalidHolder"})


def reasons() -> set[str]:
    """First arguments of errors, and first items of the tables that errors are made from."""
    found: set[str] = set()
    for folder in FOLDERS:
        for path in (PACKAGE / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                found |= set(_of(node))
    return found - OF_THE_API


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Call) and node.args:
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if function.endswith("Error") or any(keyword.arg == "retryable" for keyword in node.keywords):
            yield from _word(node.args[0])
    if isinstance(node, ast.Call):
        yield from (word for keyword in node.keywords if keyword.arg == "reason" for word in _word(keyword.value))
    if isinstance(node, ast.Tuple) and len(node.elts) >= 2:
        last = node.elts[-1]
        if isinstance(last, ast.Constant) and isinstance(last.value, bool):
            yield from _word(node.elts[0])


def _word(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _REASON.fullmatch(node.value):
        yield node.value
