"""Writes adapter folders byte by byte: a good one by default, and any other that a test describes."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_operator.artifacts import BaseModelShape

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1}
BASE = BaseModelShape(
    hidden_size=16,
    intermediate_size=24,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    num_hidden_layers=2,
    vocab_size=32,
)
Shape = tuple[int, ...]


def tensor_name(path: str, half: str) -> str:
    return f"base_model.model.{path}.lora_{half}.weight"


def lora_tensors(
    *, rank: int = 4, layers: int = 2, targets: tuple[str, ...] = ("q_proj", "v_proj"), base: BaseModelShape = BASE
) -> dict[str, Shape]:
    """Name -> shape of a whole adapter for `base`."""
    shapes: dict[str, Shape] = {}
    for template, size in base.modules().items():
        if template.rsplit(".", 1)[-1] not in targets or size is None:
            continue
        for path in [template.format(n) for n in range(layers)] if "{}" in template else [template]:
            shapes[tensor_name(path, "A")] = (rank, size[0])
            shapes[tensor_name(path, "B")] = (size[1], rank)
    return shapes


def config_of(**changes: Any) -> dict[str, Any]:
    """A config as PEFT writes it; `...` leaves a field out."""
    config: dict[str, Any] = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": "org/tiny-base",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_to_transform": None,
        "lora_alpha": 8,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "r": 4,
        "rank_pattern": {},
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
        **changes,
    }
    return {key: value for key, value in config.items() if value is not ...}


def small_values(count: int, dtype: str, seed: int) -> bytes:
    """`count` finite numbers near zero."""
    numbers = [random.Random(seed).uniform(-0.1, 0.1) for _ in range(count)]
    if dtype == "BF16":
        return b"".join(struct.pack("<f", number)[2:] for number in numbers)
    code = {"F16": "e", "F32": "f", "F64": "d"}.get(dtype)
    return struct.pack(f"<{count}{code}", *numbers) if code else bytes(count)


def safetensors_bytes(
    shapes: Mapping[str, Shape], *, dtype: str = "F16", data: Mapping[str, bytes] | None = None, seed: int = 0
) -> bytes:
    """A whole file; `data` replaces the made-up values of single tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for number, (name, shape) in enumerate(shapes.items()):
        count = 1
        for size in shape:
            count *= size
        values = (data or {}).get(name) or small_values(count, dtype, seed * 1000 + number)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(values)]}
        body += values
    return with_header(header, bytes(body))


def with_header(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def write_adapter(
    folder: Path,
    *,
    shapes: Mapping[str, Shape] | None = None,
    dtype: str = "F16",
    data: Mapping[str, bytes] | None = None,
    seed: int = 0,
    config: Mapping[str, Any] | bytes | None = None,
    weights: bytes | None = None,
    **changes: Any,
) -> Path:
    """Write an adapter; what is not said is good and fits BASE. Further keywords change fields of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = lora_tensors() if shapes is None else shapes
    raw = (
        config if isinstance(config, bytes) else json.dumps(config_of(**changes) if config is None else config).encode()
    )
    (folder / "adapter_config.json").write_bytes(raw)
    body = safetensors_bytes(shapes, dtype=dtype, data=data, seed=seed) if weights is None else weights
    (folder / "adapter_model.safetensors").write_bytes(body)
    return folder
