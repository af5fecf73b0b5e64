"""Engines that adapt some modules only (`--lora-target-modules`): they take every adapter, drop what is of other
modules without a word, and then answer like the base model (run: 0.32, 0.33). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from lora_operator.api.well_known import GROUP

# What vLLM keeps as one module; it may be listed by either name.
_PACKED = {
    "q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj", "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}  # fmt: skip
_PLAIN = frozenset({*_PACKED, "o_proj", "down_proj"})  # called so in adapters and in vLLM alike
_SHOWN_MAX = 6


def not_adapted(targets: Iterable[str], modules: frozenset[str]) -> list[str]:
    """Those of an adapter's targets (last parts of module names) that are certainly left out."""
    listed = {module.rsplit(".", 1)[-1] for module in modules}
    return sorted(name for name in targets if name in _PLAIN and not {name, _PACKED.get(name, name)} & listed)


def left_out_message(missing: Iterable[str], modules: frozenset[str]) -> str:
    """Why such an adapter is not loaded, and what to do."""
    shown = ", ".join(sorted(modules)[:_SHOWN_MAX])
    return (
        f"vLLM there adapts {shown} alone (--lora-target-modules) and would drop {', '.join(missing)} without a word; "
        f'add them to the option, or say in the annotation {GROUP}/lora-target-modules what it adapts ("*": everything)'
    )
