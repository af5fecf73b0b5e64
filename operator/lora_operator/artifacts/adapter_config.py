"""adapter_config.json: what it says, and which of that no engine release does as PEFT does.

vLLM reads a handful of its fields and, up to 0.31, ignores the rest, so that an adapter of another kind loads and
answers wrongly. Which fields change an adapter's meaning follows PEFT's LoraConfig and vLLM 0.32's `PEFTHelper`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from lora_operator.artifacts.folder import CONFIG_FILE
from lora_operator.artifacts.refused import AdapterRefused, RefusedReason

MAX_CONFIG_BYTES = 4 << 20
MAX_RANK = 4096
MAX_NAME = 512

# These only choose the adapter's first weights: what was trained is a plain LoRA. All other named inits (PiSSA, OLoRA,
# CorDA, LoftQ, …) also change the base model, which the served base is not.
_HARMLESS_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})

# Fields that make something else of the adapter than x·A·B·scale, none of which an engine release implements.
_UNSUPPORTED = {
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "use_bdlora": "block-diagonal LoRA",
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "trainable_token_indices": "trained token embeddings",
}
# What PEFT adapts as bare parameters and engines can place: weights of linear layers, which are named as layers are
# (run: 0.12 to 0.33), and the two parameters of a layer's fused experts.
_PARAMETERS = re.compile(
    r"(?:.+\.)?(?:experts\.(?:gate_up_proj|down_proj)|(?P<linear>[A-Za-z0-9_]+)\.weight)", re.ASCII
)
# Modules of classifiers that are stored whole; engines with such a head take them from 0.33 on.
_HEADS = frozenset({"score", "classifier"})
_KNOWN_SWITCHES = frozenset({"use_rslora", "use_dora", "use_bdlora", "use_qalora"})


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The checked content of adapter_config.json.

    `targets` is None where target_modules is a regular expression or "all-linear". `layers_declared` is true where the
    config itself says that only some modules of the model are adapted, so that absent layers are no mistake.
    `parameters` are the listed parameters, `heads` the modules that are stored whole.
    """

    rank: int
    alpha: float
    peft_type: str
    base_model: str | None
    targets: tuple[str, ...] | None
    use_rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    layers_to_transform: frozenset[int] | None
    layers_declared: bool
    parameters: tuple[str, ...] = ()
    heads: frozenset[str] = frozenset()


def parse_config(raw: bytes) -> AdapterConfig:
    """Check and read adapter_config.json. Raises AdapterRefused."""
    config = _load(raw)
    _refuse_other_methods(config)
    _refuse_other_semantics(config)
    rank = config.get("r")
    if "r" not in config:
        _refuse(RefusedReason.RANK_INVALID, "has no 'r' (the rank): save the adapter again with PEFT")
    if not _is_rank(rank):
        _refuse(RefusedReason.RANK_INVALID, f"has r={_show(rank)}: the rank must be a whole number of 1 to {MAX_RANK}")
    alpha = config.get("lora_alpha")
    if not _is_number(alpha):
        _refuse(RefusedReason.CONFIG_INVALID, f"has lora_alpha={_show(alpha)}: it must be a number")
    parameters = _parameters(config.get("target_parameters"))
    targets, regex = _targets(config.get("target_modules"), optional=bool(parameters))
    transform = _layers_to_transform(config.get("layers_to_transform"))
    rank_pattern = _pattern(config, "rank_pattern")
    for key, value in rank_pattern.items():
        if not _is_rank(value):
            _refuse(
                RefusedReason.RANK_INVALID,
                f"has rank_pattern[{_show(key)}]={_show(value)}: it must be a whole number of 1 to {MAX_RANK}",
            )
    alpha_pattern = _pattern(config, "alpha_pattern")
    for key, value in alpha_pattern.items():
        if not _is_number(value):
            _refuse(RefusedReason.CONFIG_INVALID, f"has alpha_pattern[{_show(key)}]={_show(value)}: not a number")
    use_rslora = _switch(config, "use_rslora")
    dotted = targets is not None and any("." in target for target in targets)
    return AdapterConfig(
        rank=rank,
        alpha=float(alpha),
        peft_type="LORA",
        base_model=_base_model(config.get("base_model_name_or_path")),
        targets=targets,
        use_rslora=use_rslora,
        rank_pattern=rank_pattern,
        alpha_pattern={key: float(value) for key, value in alpha_pattern.items()},
        layers_to_transform=transform,
        layers_declared=transform is not None or regex or dotted or bool(config.get("exclude_modules")),
        parameters=parameters,
        heads=frozenset(config.get("modules_to_save") or ()),
    )


def _load(raw: bytes) -> dict[str, Any]:
    if raw.startswith(b"version https://git-lfs"):
        _refuse(RefusedReason.CONFIG_INVALID, "is a Git LFS pointer: run `git lfs pull` where it comes from")
    try:
        config = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        _refuse(RefusedReason.CONFIG_INVALID, "is nested too deeply: it is not a PEFT config")
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        _refuse(RefusedReason.CONFIG_INVALID, f"is not valid JSON ({_show_text(str(error))}): save it again with PEFT")
    if not isinstance(config, dict):
        _refuse(RefusedReason.CONFIG_INVALID, "is not a JSON object: save it again with PEFT")
    return config


def _refuse_other_methods(config: Mapping[str, Any]) -> None:
    peft_type = config.get("peft_type")
    if not isinstance(peft_type, str) or not peft_type:
        _refuse(RefusedReason.PEFT_TYPE_UNSUPPORTED, "has no peft_type: only LORA is served, say so if it is one")
    if peft_type.upper() != "LORA":
        _refuse(
            RefusedReason.PEFT_TYPE_UNSUPPORTED,
            f"has peft_type {_show(peft_type)}: only LORA can be served, train or convert to a LoRA adapter",
        )
    if _switch(config, "use_dora"):
        _refuse(RefusedReason.DORA_UNSUPPORTED, "has use_dora: engines do not serve DoRA, train with use_dora=False")
    bias = config.get("bias", "none")
    if bias != "none":
        _refuse(
            RefusedReason.BIAS_UNSUPPORTED, f"has bias={_show(bias)}: only 'none' is served, train with bias='none'"
        )
    if _switch(config, "lora_bias"):
        _refuse(RefusedReason.BIAS_UNSUPPORTED, "has lora_bias: no engine applies it, train with lora_bias=False")
    saved = config.get("modules_to_save")
    if saved and not (isinstance(saved, list) and all(isinstance(name, str) and name in _HEADS for name in saved)):
        _refuse(
            RefusedReason.MODULES_TO_SAVE_UNSUPPORTED,
            f"has modules_to_save={_show(saved)}: of whole modules only the head of a classifier is served (score or "
            "classifier, from vLLM 0.33 on), train without others",
        )
    init = config.get("init_lora_weights", True)
    if init is not None and not isinstance(init, bool):
        if not isinstance(init, str):
            _refuse(
                RefusedReason.CONFIG_INVALID, f"has init_lora_weights={_show(init)}: it must be a boolean or a name"
            )
        if init.lower() not in _HARMLESS_INITS:
            _refuse(
                RefusedReason.INIT_UNSUPPORTED,
                f"has init_lora_weights={_show(init)}, which changes the base model's weights while the served base is "
                "unchanged: save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA",
            )


def _refuse_other_semantics(config: Mapping[str, Any]) -> None:
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            _refuse(RefusedReason.FEATURE_UNSUPPORTED, f"has {key} ({what}): no engine serves that, train without it")
    for key, value in config.items():
        # PEFT switches its variants on by fields of this form; one that is not known here is not served as meant.
        if key.startswith("use_") and key not in _KNOWN_SWITCHES and value:
            _refuse(
                RefusedReason.FEATURE_UNSUPPORTED,
                f"has {_show(key)}, a variant of LoRA that is not known here: train without it",
            )


def _parameters(value: object) -> tuple[str, ...]:
    if not value:
        return ()
    found = []
    for name in value if isinstance(value, list) else [value]:
        if not isinstance(name, str) or len(name) > MAX_NAME or not _PARAMETERS.fullmatch(name):
            _refuse(
                RefusedReason.FEATURE_UNSUPPORTED,
                f"has {_show(name)} in target_parameters: engines take weights of linear layers and the experts' "
                "gate_up_proj and down_proj, train without others",
            )
        found.append(name.removesuffix(".weight"))
    return tuple(found)


def _targets(value: object, *, optional: bool) -> tuple[tuple[str, ...] | None, bool]:
    """The listed modules, or None, and whether a regular expression chooses them."""
    if isinstance(value, str) and value:
        return None, value != "all-linear"
    if value == [] and optional:
        return (), False
    if not isinstance(value, list) or not value:
        _refuse(RefusedReason.TARGETS_UNSUPPORTED, f"has target_modules={_show(value)}: it must name the modules")
    for target in value:
        if not isinstance(target, str) or not 0 < len(target) <= MAX_NAME or not target.isprintable():
            _refuse(RefusedReason.TARGETS_UNSUPPORTED, f"has {_show(target)} in target_modules: not a module's name")
    return tuple(value), False


def _layers_to_transform(value: object) -> frozenset[int] | None:
    if value is None or value == []:
        return None
    layers = value if isinstance(value, list) else [value]
    if not all(isinstance(layer, int) and not isinstance(layer, bool) and layer >= 0 for layer in layers):
        _refuse(RefusedReason.CONFIG_INVALID, f"has layers_to_transform={_show(value)}: it must list layer numbers")
    return frozenset(layers)


def _pattern(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse(RefusedReason.CONFIG_INVALID, f"has {key}={_show(value)}: it must map module names to numbers")
    return value


def _base_model(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 4096:
        _refuse(RefusedReason.CONFIG_INVALID, f"has base_model_name_or_path={_show(value)}: it must be a model's name")
    return value


def _switch(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        _refuse(RefusedReason.CONFIG_INVALID, f"has {key}={_show(value)}: it must be true or false")
    return bool(value)


def _is_rank(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]!r} stands there twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _show(value: object) -> str:
    return _show_text(repr(value))


def _show_text(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"


def _refuse(reason: RefusedReason, text: str) -> NoReturn:
    raise AdapterRefused(reason, f"{CONFIG_FILE} {text}")
