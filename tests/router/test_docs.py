"""The examples of docs/router-api.md give what the page says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lora_operator.router.picker import NAMES
from lora_operator.router.problems import TITLES
from lora_operator.router.streams import StreamLimits
from tests.router.examples import examples, try_examples
from tests.router.fleet import Fleet
from tests.router.recording import an_asking
from tests.router.serving import served

PAGE = (Path(__file__).parents[2] / "docs" / "router-api.md").read_text()


def the_fleet() -> Fleet:
    fleet = Fleet(epoch="1f0c2a9b")
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.pod("vllm-1", "10.0.0.2")
    fleet.adapter("assistants", {"vllm-0": {"sql": "sql", "chat": "chat--5d41402a"}, "vllm-1": {"sql": "sql"}})
    fleet.adapter("on-demand", names=("poet",), on_demand=True)
    fleet.refresh()
    return fleet


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_every_example_prints_what_the_page_says() -> None:
    limits = StreamLimits(heartbeat_seconds=0.1)
    async with an_asking() as (_, asking, _), served(the_fleet(), limits, asking=asking) as api:
        await try_examples(PAGE, api)
    assert len(examples(PAGE)) >= 8


def test_the_python_example_works(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "docs/router-api.md", "exec"), {"table": the_fleet().table})
    assert capsys.readouterr().out == "chat ['10.0.0.1:8000']\nsql ['10.0.0.1:8000', '10.0.0.2:8000']\n"


def test_the_page_names_every_problem_and_policy() -> None:
    for name in (*TITLES, *NAMES):
        assert f"`{name}`" in PAGE
