"""The library's README does what it says, and the library needs nothing but Python."""

from __future__ import annotations

import ast
import io
import re
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import lora_scheduler

PACKAGE = Path(lora_scheduler.__file__).parent
PROJECT = PACKAGE.parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_examples_print_what_stands_below_them() -> None:
    examples = BLOCK.findall((PROJECT / "README.md").read_text())
    assert len(examples) == 3
    known: dict[str, object] = {}
    for code, expected in examples:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), known)
        assert printed.getvalue() == expected


def test_only_the_standard_library_is_imported() -> None:
    imported: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names == {"lora_scheduler"}


def test_the_distribution_has_no_dependencies_and_the_operators_version() -> None:
    own = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    whole = tomllib.loads((PROJECT.parent / "pyproject.toml").read_text())["project"]
    assert own["dependencies"] == []
    assert (own["version"], own["requires-python"]) == (whole["version"], whole["requires-python"])
    assert (PACKAGE / "py.typed").exists()
