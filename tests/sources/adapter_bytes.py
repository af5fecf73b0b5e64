"""The files of an adapter in memory: a good one by default (see tests.artifacts.written_adapter)."""

from __future__ import annotations

import json
from typing import Any

from lora_operator.sources import SourceRequest
from tests.artifacts.written_adapter import BASE, config_of, lora_tensors, safetensors_bytes

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter(folder: str = "", *, seed: int = 0, rank: int = 4, **changes: Any) -> dict[str, bytes]:
    """Path → content of an adapter's files in `folder` ("" for the root); `changes` are for the config."""
    prefix = f"{folder}/" if folder else ""
    return {
        f"{prefix}{CONFIG}": json.dumps(config_of(r=rank, **changes)).encode(),
        f"{prefix}{WEIGHTS}": safetensors_bytes(lora_tensors(rank=rank), seed=seed),
    }


def a_request(source_type: str, repository: str, **changes: Any) -> SourceRequest:
    """What a resource for the base model of these adapters asks for."""
    return SourceRequest(source_type, repository, **({"base_model": "org/tiny-base", "base": BASE} | changes))
