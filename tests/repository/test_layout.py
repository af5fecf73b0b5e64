"""The repository keeps its shape: folders, sizes and names of files, and what may import what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("scheduler", "operator", "e2e", "bench", "release", "tests")
MOST_LINES = 400


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_operator_folder_is_no_package() -> None:
    """`operator` is a module of the standard library: a package of that name would hide it, or be hidden by it."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_file_has_more_than_400_lines() -> None:
    too_long = {
        relative(path): lines for path in modules() if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not too_long, "split these by what they do"


def test_no_module_is_called_utils_or_helpers() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert not [relative(path) for path in modules() if {path.stem, path.parent.name} & vague]


def test_every_package_says_what_lives_there() -> None:
    packages = [path for path in modules() if path.name == "__init__.py" and "tests" not in path.parts]
    silent = [relative(path) for path in packages if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


@pytest.mark.parametrize("folder", ["scheduler/lora_scheduler", "operator/lora_operator", "e2e"])
def test_every_folder_of_code_is_a_package(folder: str) -> None:
    folders = {path.parent for path in (ROOT / folder).rglob("*.py")}
    assert not [relative(one) for one in sorted(folders) if not (one / "__init__.py").exists()]


def test_the_placement_library_needs_only_the_standard_library() -> None:
    foreign = {}
    for path in sorted((ROOT / "scheduler" / "lora_scheduler").rglob("*.py")):
        names = set(imports(path)) - set(sys.stdlib_module_names) - {"lora_scheduler"}
        if names:
            foreign[relative(path)] = names
    assert not foreign


@pytest.mark.parametrize("module", ["time", "random", "secrets", "os", "socket", "asyncio", "threading", "subprocess"])
def test_the_placement_library_has_neither_clock_nor_chance_nor_effects(module: str) -> None:
    users = [relative(p) for p in (ROOT / "scheduler" / "lora_scheduler").rglob("*.py") if module in imports(p)]
    assert not users


def imports(path: Path) -> list[str]:
    """The top-level names of the modules that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.append(node.module.split(".")[0])
    return names
