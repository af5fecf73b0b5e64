"""Command lines that a server does not start with."""

from __future__ import annotations

from ..by_release import RANK_ONE
from ..case import Cases, Server
from ..target import Target

cases = Cases(Server.NONE)
_LORA = ["--served-model-name", "tiny", "--enable-lora"]


async def _refused(t: Target, arguments: list[str], environment: dict[str, str] | None = None) -> str:
    assert t.launch is not None
    code, output = await t.launch([*_LORA, *arguments], environment or {})
    assert code not in (0, None), output
    return output


@cases("--max-lora-rank accepts 1, 8, 16, 32, 64, 128, 256, 320, 512")
async def a_rank_limit_that_is_none_of_the_allowed_is_refused(t: Target) -> None:
    output = await _refused(t, ["--max-lora-rank", "24"])
    assert "24" in output
    assert ("1, 8, 16" in output.replace("'", "")) is RANK_ONE[t.release]


@cases("max_cpu_loras below max_loras is refused")
async def fewer_host_slots_than_batch_slots_are_refused(t: Target) -> None:
    assert "max_cpu_loras" in await _refused(t, ["--max-loras", "4", "--max-cpu-loras", "2"])


@cases("With runtime updating on, --api-server-count 2 refuses to start")
async def two_api_servers_with_runtime_updating_are_refused(t: Target) -> None:
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    output = await _refused(t, ["--api-server-count", "2"], environment)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in output
