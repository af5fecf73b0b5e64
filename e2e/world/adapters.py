"""Small random LoRA adapters in the form that peft writes, made without torch."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path

# the tiny Llama of the contract suite: hidden 64, 4 heads, 2 KV heads, head_dim 32, 2 layers
HIDDEN = 64
WIDTHS = {"q_proj": 128, "v_proj": 64}
LAYERS = 2
MODEL_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
}


def write_adapter(
    folder: Path,
    *,
    base_model: str,
    rank: int = 8,
    seed: int = 0,
    spread: float = 0.05,
    config_rank: int | None = None,
    **config: object,
) -> Path:
    """Write adapter_config.json and adapter_model.safetensors; another `seed` gives other weights, each at most
    `spread` from zero: with 0.3 a real engine answers clearly otherwise than without the adapter.

    `config_rank` writes a rank into the config that the weights do not have; further arguments go into the config as
    they are. An adapter that is already there is replaced at once, as a careful publisher does it.
    """
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    written: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank if config_rank is None else config_rank,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(WIDTHS),
        "inference_mode": True,
    }
    (temporary / "adapter_config.json").write_text(json.dumps(written | config, indent=1))
    (temporary / "adapter_model.safetensors").write_bytes(_weights(rank, seed, spread))
    if folder.is_dir():
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (temporary / name).replace(folder / name)
        temporary.rmdir()
    else:
        temporary.replace(folder)
    return folder


def _weights(rank: int, seed: int, spread: float) -> bytes:
    source = random.Random(seed)
    header: dict[str, object] = {}
    body = bytearray()
    for layer in range(LAYERS):
        for target, width in sorted(WIDTHS.items()):
            for part, shape in (("lora_A", (rank, HIDDEN)), ("lora_B", (width, rank))):
                count = shape[0] * shape[1]
                values = [source.uniform(-spread, spread) for _ in range(count)]
                start = len(body)
                body += struct.pack(f"<{count}e", *values)
                name = f"base_model.model.model.layers.{layer}.self_attn.{target}.{part}.weight"
                header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)
