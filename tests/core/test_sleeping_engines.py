"""Engines that somebody tells to sleep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_operator.vllm.engine_state import EngineState
from tests.core.builders import a_pod
from tests.core.test_engines import watched


async def test_an_engine_that_was_told_to_sleep_is_down_until_it_wakes() -> None:
    async with watched() as it:
        await it.serve(VLLM_SERVER_DEV_MODE="1")
        sleepy = a_pod(args=("--enable-sleep-mode",), env={"VLLM_SERVER_DEV_MODE": "1"})
        it.sync_targets(replace(sleepy, pod=replace(sleepy.pod, ip="127.0.0.1", port=it.record.pod.port)))
        await it.until(lambda: it.view.state is EngineState.UP)
        url = f"http://127.0.0.1:{it.record.pod.port}"
        await it.session.post(f"{url}/sleep")
        await it.until(lambda: it.view.state is EngineState.DOWN)
        assert it.view.reason == "EngineSleeping" and "POST /wake_up" in it.view.error
        await it.session.post(f"{url}/wake_up")
        await it.until(lambda: it.view.state is EngineState.UP)


@pytest.mark.parametrize(
    ("args", "env", "asked"),
    [
        (("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"}, True),
        (("--enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "0"}, False),
        (("--enable-sleep-mode",), {}, False),
        (("--no-enable-sleep-mode",), {"VLLM_SERVER_DEV_MODE": "1"}, False),
    ],
)
def test_only_engines_that_can_sleep_are_asked_whether_they_do(
    args: tuple[str, ...], env: dict[str, str], asked: bool
) -> None:
    assert a_pod(args=args, env=env).pod.may_sleep is asked
