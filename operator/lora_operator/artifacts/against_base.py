"""Whether an adapter fits the base model whose layer shapes are known: every module, every size, every layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NoReturn

from lora_operator.artifacts.adapter_config import AdapterConfig
from lora_operator.artifacts.base_shape import BaseModelShape
from lora_operator.artifacts.folder import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.artifacts.modules import Module
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason


def check_fits(config: AdapterConfig, modules: Sequence[Module], base: BaseModelShape) -> None:
    """Raise AdapterRefused unless each module exists in `base` with these sizes, and none is left out."""
    known = base.modules()
    layers: dict[str, set[int]] = defaultdict(set)
    for module in modules:
        if module.template not in known:
            _refuse(
                RefusedReason.TARGETS_UNSUPPORTED,
                f"tensor {module.a.name} adapts {module.path}, which the base model does not have: "
                "use an adapter of this base model",
            )
        if module.layer is not None:
            if module.layer >= base.num_hidden_layers:
                _refuse(
                    RefusedReason.LAYERS_MISMATCH,
                    f"tensor {module.a.name} is of layer {module.layer}, but the base model has "
                    f"{base.num_hidden_layers} layers (0 to {base.num_hidden_layers - 1}): "
                    "use an adapter of this base model",
                )
            layers[module.template].add(module.layer)
        expected = known[module.template]
        if expected is not None and (module.inputs, module.outputs) != expected:
            _refuse(
                RefusedReason.SHAPE_MISMATCH,
                f"tensor {module.a.name} belongs to a layer of {module.inputs}→{module.outputs}, but {module.path} of "
                f"the base model is {expected[0]}→{expected[1]}: use an adapter of this base model",
            )
    _check_complete(config, layers, {module.leaf for module in modules}, base)


def _check_complete(config: AdapterConfig, layers: dict[str, set[int]], leaves: set[str], base: BaseModelShape) -> None:
    every = set(range(base.num_hidden_layers))
    if config.layers_to_transform is not None:
        every &= config.layers_to_transform
    elif config.layers_declared:
        return
    for template, present in sorted(layers.items()):
        absent = every - present
        if absent:
            _refuse(
                RefusedReason.LAYERS_MISMATCH,
                f"has no tensors for {template.format(min(absent))} ({len(absent)} of {len(every)} layers are absent): "
                "use an adapter of this base model, copied whole",
            )
    if config.targets is None or config.layers_declared:
        return
    for template in base.modules():
        leaf = template.rsplit(".", 1)[-1]
        if leaf in config.targets and leaf not in leaves:
            _refuse(
                RefusedReason.TARGETS_MISMATCH,
                f"has no tensors for {leaf}, which {CONFIG_FILE} lists in target_modules: copy or save it again",
            )


def _refuse(reason: RefusedReason, text: str) -> NoReturn:
    raise AdapterRefused(reason, f"{WEIGHTS_FILE}: {text}")
