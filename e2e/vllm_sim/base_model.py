"""The base model's layer shapes, from its config.json: enough to tell what fits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LAYER = re.compile(r"^model\.layers\.(\d+)\.(?:self_attn|mlp)\.([a-z_]+)$")


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer's width."""

    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Shapes of a Llama-like decoder. `modules` are the names that an adapter may target."""

    layers: int
    shapes: Mapping[str, Layer]
    max_position_embeddings: int
    modules: frozenset[str]

    def layer(self, module: str) -> Layer | None:
        """The layer called `module` (model.layers.0.self_attn.q_proj), or None where the model has no such layer."""
        match = _LAYER.match(module)
        if match is None:
            return self.shapes.get(module)
        return self.shapes.get(match[2]) if int(match[1]) < self.layers else None


def read_base_model(config_file: Path) -> BaseModel:
    """Raises ValueError with the file's name where the config lacks what is needed."""
    try:
        config: dict[str, Any] = json.loads(config_file.read_text())
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        inner, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
        layers = int(config["num_hidden_layers"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{config_file}: not the config of a Llama-like model ({exc!r})") from None
    shapes = {
        "q_proj": Layer(hidden, heads * head),
        "k_proj": Layer(hidden, kv_heads * head),
        "v_proj": Layer(hidden, kv_heads * head),
        "o_proj": Layer(heads * head, hidden),
        "gate_proj": Layer(hidden, inner),
        "up_proj": Layer(hidden, inner),
        "down_proj": Layer(inner, hidden),
        "lm_head": Layer(hidden, vocabulary),
        "embed_tokens": Layer(vocabulary, hidden),
    }
    positions = int(config.get("max_position_embeddings") or 4096)
    return BaseModel(layers, shapes, positions, frozenset(shapes))
