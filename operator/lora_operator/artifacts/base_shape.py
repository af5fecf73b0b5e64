"""The layer shapes of a base model, read from its config.json where its architecture is one that we know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_CONFIG_BYTES = 4 << 20

# Decoders whose linear layers are exactly those of Llama, in names and in shapes, in every layer.
_ARCHITECTURES = frozenset(
    {
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "GemmaForCausalLM",
        "Gemma2ForCausalLM",
        "GraniteForCausalLM",
    }
)
# Where config.json may leave these out, transformers derives them; elsewhere it has a constant of its own.
_DERIVES_HEAD_DIM = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "GraniteForCausalLM"})
_DERIVES_KV_HEADS = frozenset({"LlamaForCausalLM", "GraniteForCausalLM"})


@dataclass(frozen=True, slots=True)
class BaseModelShape:
    """The sizes of a Llama-like decoder that decide the shapes of its linear layers."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_hidden_layers: int
    vocab_size: int | None = None

    def modules(self) -> Mapping[str, tuple[int, int] | None]:
        """Module path, with `{}` for the layer's number -> (inputs, outputs); None where the size is not known."""
        hidden, inner = self.hidden_size, self.intermediate_size
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        vocabulary = self.vocab_size
        return {
            "model.layers.{}.self_attn.q_proj": (hidden, queries),
            "model.layers.{}.self_attn.k_proj": (hidden, keys),
            "model.layers.{}.self_attn.v_proj": (hidden, keys),
            "model.layers.{}.self_attn.o_proj": (queries, hidden),
            "model.layers.{}.mlp.gate_proj": (hidden, inner),
            "model.layers.{}.mlp.up_proj": (hidden, inner),
            "model.layers.{}.mlp.down_proj": (inner, hidden),
            "model.embed_tokens": (vocabulary, hidden) if vocabulary else None,
            "lm_head": (hidden, vocabulary) if vocabulary else None,
        }

    @classmethod
    def from_config(cls, path: Path) -> BaseModelShape | None:
        """Read a model's config.json. None where it is absent, not valid, or of an architecture that we do not know."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_CONFIG_BYTES + 1)
            config = json.loads(raw) if len(raw) <= MAX_CONFIG_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None
        return cls._from_mapping(config) if isinstance(config, dict) else None

    @classmethod
    def _from_mapping(cls, config: Mapping[str, Any]) -> BaseModelShape | None:
        names = config.get("architectures")
        if not isinstance(names, list) or len(names) != 1 or names[0] not in _ARCHITECTURES:
            return None
        hidden = _size(config, "hidden_size")
        inner = _size(config, "intermediate_size")
        heads = _size(config, "num_attention_heads")
        layers = _size(config, "num_hidden_layers")
        if hidden is None or inner is None or heads is None or layers is None:
            return None
        kv_heads = _size(config, "num_key_value_heads")
        if kv_heads is None and config.get("num_key_value_heads") is None and names[0] in _DERIVES_KV_HEADS:
            kv_heads = heads
        head_dim = _size(config, "head_dim")
        if head_dim is None and config.get("head_dim") is None and names[0] in _DERIVES_HEAD_DIM:
            head_dim = hidden // heads if hidden % heads == 0 else None
        if kv_heads is None or head_dim is None:
            return None
        return cls(hidden, inner, heads, kv_heads, head_dim, layers, _size(config, "vocab_size"))


def _size(config: Mapping[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
