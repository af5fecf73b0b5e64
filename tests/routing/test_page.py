"""The page about routing says nothing that does not work."""

from __future__ import annotations

import re
from pathlib import Path

from lora_scheduler.routing import POLICIES

PAGE = (Path(__file__).parents[2] / "docs" / "routing-policies.md").read_text()


def test_the_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/routing-policies.md", "exec"), {})


def test_every_policy_is_described() -> None:
    described = re.findall(r"^\| `([\w-]+)`", PAGE, re.MULTILINE)
    assert sorted(described) == sorted(POLICIES)
