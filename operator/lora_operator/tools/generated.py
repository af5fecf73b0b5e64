"""Files that are generated and checked in: written, or compared with what they should be."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_check(
    arguments: Sequence[str] | None, render: Callable[[], str], *, module: str, text: str, source: str, target: str
) -> int:
    """The whole of a program `python -m MODULE [--check] PATH`; returns its exit status.

    Args:
        render: makes the file's text, always the same.
        module: its name; `text` is its docstring, `source` what the file is made of, `target` that of make.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=text.partition("\n")[0])
    parser.add_argument("path", type=Path, help="the file to write")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not what it should be")
    options = parser.parse_args(arguments)
    made = render()
    if not options.check:
        options.path.write_text(made, encoding="utf-8")
        return 0
    current = options.path.read_text(encoding="utf-8") if options.path.exists() else ""
    lines = [*difflib.unified_diff(current.splitlines(), made.splitlines(), str(options.path), source, lineterm="")]
    if lines:
        lines += [f"{options.path} is not what the {source} give: run make {target}", ""]
        sys.stderr.write("\n".join(lines))
    return 1 if lines else 0
