"""The page of Events knows every reason that the operator can give, and none that it cannot."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from lora_operator.status.aggregate import _PASSING, _TELLING
from tests.delivery.reasons_in_code import PACKAGE

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "events.md").read_text()
TYPES = ("Normal", "Warning")


def on_the_page(section: str) -> dict[str, str]:
    """Reason -> what stands beside it."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = (line.strip("|").split("|", 1) for line in text.splitlines() if line.startswith("| `"))
    return {first.strip().strip("`"): rest.strip() for first, rest in rows}


def said_in_code() -> Iterator[tuple[str, str]]:
    """Type and reason, wherever both are written down: `emit(…, "Normal", "Evicted", …)`, `("Normal", "Ready", …)`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        constants = dict(_constants(tree))
        for node in ast.walk(tree):
            items = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            for kind, reason in pairwise(items):
                if isinstance(kind, ast.Constant) and kind.value in TYPES and isinstance(reason, ast.Constant):
                    yield str(kind.value), str(reason.value)
            if isinstance(node, ast.Call) and path.name == "scaling_events.py" and _name(node.func) == "_tell":
                yield "Normal", constants[_name(node.args[2])]


def _constants(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Those that are given several at a time: A, B = "a", "b"."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                pairs = zip(names, values, strict=True)
                yield from ((_name(name), str(one.value)) for name, one in pairs if isinstance(one, ast.Constant))


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_what_was_done_is_all_on_the_page() -> None:
    shown = {(row.partition("|")[0].strip(), reason) for reason, row in on_the_page("What was done").items()}
    assert shown == set(said_in_code())


def test_every_reason_of_placement_and_of_the_declaration_is_on_the_page() -> None:
    given = {reason.value for reason in _TELLING if reason not in _PASSING} | set(declared())
    assert set(on_the_page("What is wrong")) == given


def declared() -> Iterator[str]:
    """What is refused before anything is planned."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Rejected"), args=[_, ast.Constant(value=str(code)), *_]):
                    yield code
                case ast.Call(
                    func=ast.Name(id="SourceState"), args=[ast.Constant(value=False), ast.Constant(value=str(code)), *_]
                ):
                    yield code


def headings(text: str) -> set[str]:
    """As links name them."""
    lines = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", line).replace(" ", "-") for line in lines}


def test_links_lead_to_headings_that_exist() -> None:
    for page in ("events.md", "metrics.md", "tracing.md"):
        for file, anchor in re.findall(r"\]\(([\w-]*\.?m?d?)#?([\w-]*)\)", (DOCS / page).read_text()):
            assert not anchor or anchor in headings((DOCS / (file or page)).read_text()), (page, file, anchor)
