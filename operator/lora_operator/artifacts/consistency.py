"""Whether config and weights agree with each other, and the layers among themselves.

Engines fill up what is too small, ignore what they cannot place, and trust the config's rank: all without a word.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NoReturn

from lora_operator.artifacts.adapter_config import AdapterConfig
from lora_operator.artifacts.folder import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.artifacts.modules import Module
from lora_operator.artifacts.patterns import first_match
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

# Mixtures of experts have up to three dense layers before the first with experts.
_LATEST_START = 4


def check_ranks(config: AdapterConfig, modules: Sequence[Module]) -> frozenset[str]:
    """Compare each module's rank with the config's. Returns which of the patterns have an effect."""
    paths = [module.path for module in modules]
    ranks = first_match(config.rank_pattern, paths, CONFIG_FILE, "rank_pattern")
    alphas = first_match(config.alpha_pattern, paths, CONFIG_FILE, "alpha_pattern")
    for module in modules:
        expected = ranks.get(module.path, config.rank)
        # engines know how many experts there are
        if module.rank % expected if module.experts else module.rank != expected:
            where = "rank_pattern" if module.path in ranks else "r"
            _refuse(
                RefusedReason.RANK_MISMATCH,
                f"tensor {module.a.name} has rank {module.rank}, but {CONFIG_FILE} says {expected} ({where}): "
                "config and weights are not of the same training, copy both again",
            )
    features = set()
    if any(rank != config.rank for rank in ranks.values()):
        features.add("rank_pattern")
    if any(alpha != config.alpha for alpha in alphas.values()):
        features.add("alpha_pattern")
    if any(module.experts for module in modules):
        features.add("fused_experts")
    if config.heads:
        features.add("classification_head")
    return frozenset(features)


def check_targets(config: AdapterConfig, modules: Sequence[Module]) -> None:
    """Where the config lists its target modules, every adapted module must be one of them."""
    if config.targets is None:
        return
    listed = frozenset((*config.targets, *config.parameters))
    if any(".experts." in f".{name}" for name in config.parameters) and not any(module.experts for module in modules):
        _refuse(
            RefusedReason.TARGETS_MISMATCH,
            f"has no tensors of experts, which {CONFIG_FILE} lists in target_parameters: copy or save it again",
        )
    for module in modules:
        parts = module.path.split(".")
        if not any(".".join(parts[index:]) in listed for index in range(len(parts))):
            _refuse(
                RefusedReason.TARGETS_MISMATCH,
                f"tensor {module.a.name} adapts {module.leaf}, which {CONFIG_FILE} does not list in target_modules: "
                "config and weights are not of the same training, copy both again",
            )


def check_heads(config: AdapterConfig, names: Iterable[str]) -> None:
    """Where the config lists a classifier's head, the weights must hold it. PEFT lists both names that it may have."""
    if config.heads and len({name.split(".")[-2] for name in names if name.endswith(".weight")} & config.heads) != 1:
        _refuse(
            RefusedReason.MODULES_TO_SAVE_UNSUPPORTED,
            f"has not exactly one of {', '.join(sorted(config.heads))}, which {CONFIG_FILE} lists in modules_to_save: "
            "engines take one head of a classifier, save the adapter again with it",
        )


def check_declared_layers(config: AdapterConfig, modules: Sequence[Module]) -> None:
    """No module may be in a layer that layers_to_transform leaves out."""
    if config.layers_to_transform is None:
        return
    for module in modules:
        if module.layer is not None and module.layer not in config.layers_to_transform:
            _refuse(
                RefusedReason.LAYERS_MISMATCH,
                f"tensor {module.a.name} is of layer {module.layer}, which {CONFIG_FILE} does not list in "
                "layers_to_transform: config and weights are not of the same training, copy both again",
            )


def doubts_about_layers(modules: Sequence[Module], *, layers_declared: bool) -> tuple[str, ...]:
    """What looks like a mistake and may be meant: layers that lack what others have, or differ from them.

    Only the base model's shapes tell: there are models whose layers differ in kind and in width, by rule or without
    one, and trainings that leave layers out.
    """
    by_template: dict[str, list[Module]] = defaultdict(list)
    for module in modules:
        if module.layer is not None:
            by_template[module.template].append(module)
    layers = {template: {module.layer for module in group if module.layer is not None}
              for template, group in by_template.items()}  # fmt: skip
    found = [_other_shape(template, group) for template, group in by_template.items()]
    if not layers_declared:
        found += [_gap(template, sorted(present)) for template, present in layers.items()]
        found += _absent_siblings(layers)
    return tuple(f"{WEIGHTS_FILE} {text}" for text in found if text)


def _other_shape(template: str, group: Sequence[Module]) -> str:
    shapes = Counter((module.inputs, module.outputs) for module in group)
    usual = shapes.most_common(1)[0][0]
    alone = [module for module in group if shapes[module.inputs, module.outputs] == 1 and len(shapes) > 1]
    odd = next((module for module in alone if (module.inputs, module.outputs) != usual), None)
    if odd is None:
        return ""
    sizes = f"{odd.inputs}→{odd.outputs}"
    return f"adapts {odd.path} as {sizes}, where {template} is {usual[0]}→{usual[1]} in other layers"


def _gap(template: str, layers: Sequence[int]) -> str:
    steps = [later - earlier for earlier, later in pairwise(layers)]
    if layers[0] >= max(_LATEST_START, 2 * max(steps, default=1)):
        return f"has no tensors for {template} before layer {layers[0]}"
    if set(steps) <= {1} or _periodic(steps):
        return ""
    missing = next(layer + 1 for layer, step in zip(layers, steps, strict=False) if step > 1)
    return f"has no tensors for {template.format(missing)}, though layers before and after it have them"


def _periodic(steps: Sequence[int]) -> bool:
    for period in range(1, len(steps) // 2 + 1):
        if all(step == steps[index % period] for index, step in enumerate(steps)):
            return True
    return len(steps) == 1  # two layers say nothing about a rule


def _absent_siblings(layers: dict[str, set[int]]) -> Iterator[str]:
    families: dict[str, set[int]] = defaultdict(set)
    for template, present in layers.items():
        families[template.rsplit(".", 1)[0]] |= present
    for template, present in layers.items():
        absent = families[template.rsplit(".", 1)[0]] - present
        if len(absent) == 1:
            yield f"has no tensors for {template.format(absent.pop())}, though its neighbours in that layer have them"


def check_blocks(modules: Iterable[Module]) -> None:
    """Inside one attention or MLP block: what reads the same input has its width."""
    blocks: dict[str, dict[str, Module]] = defaultdict(dict)
    for module in modules:
        parent, _, leaf = module.path.rpartition(".")
        blocks[parent][leaf] = module
    for parent, block in blocks.items():
        kind = parent.rsplit(".", 1)[-1]
        if kind == "self_attn":
            _same("inputs", block, ("q_proj", "k_proj", "v_proj"))
        if kind == "mlp":
            _same("inputs", block, ("gate_proj", "up_proj"))
            _same("outputs", block, ("gate_proj", "up_proj"))
            inner = block.get("gate_proj") or block.get("up_proj")
            down = block.get("down_proj")
            if inner is not None and down is not None and inner.outputs != down.inputs:
                _refuse(
                    RefusedReason.SHAPE_MISMATCH,
                    f"tensor {down.a.name} has {down.inputs} inputs, where {inner.path} has {inner.outputs} outputs: "
                    "the adapter was put together wrongly, save it again",
                )


def _same(side: str, block: dict[str, Module], leaves: Collection[str]) -> None:
    present = [block[leaf] for leaf in leaves if leaf in block]
    for module in present[1:]:
        first, here = getattr(present[0], side), getattr(module, side)
        if first != here:
            tensor = module.a if side == "inputs" else module.b
            _refuse(
                RefusedReason.SHAPE_MISMATCH,
                f"tensor {tensor.name} has {here} {side}, where {present[0].path} has {first}: "
                "the adapter was put together wrongly, save it again",
            )


def _refuse(reason: RefusedReason, text: str) -> NoReturn:
    raise AdapterRefused(reason, f"{WEIGHTS_FILE}: {text}")
