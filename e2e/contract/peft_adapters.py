"""Adapters written by the real peft, one for each feature that a config can carry.

Needs torch and peft. Every adapter has all its weights drawn at random, as if it had been trained: an adapter fresh
from peft has B = 0 and would answer like the base.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftConfig,
    PromptTuningConfig,
    get_peft_model,
)
from peft.tuners.lora.config import BdLoraConfig, KasaConfig
from transformers import LlamaForCausalLM

_ATTENTION = ["q_proj", "v_proj"]
_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_TASK = "CAUSAL_LM"


def _lora(**options: Any) -> LoraConfig:
    return LoraConfig(**{"r": 2, "lora_alpha": 4, "target_modules": _ATTENTION, "task_type": _TASK, **options})


def configs() -> Mapping[str, PeftConfig]:
    """Folder name -> what peft is asked to make."""
    return {
        "lora": _lora(),
        "lora-v2": _lora(),
        "lora-v3": _lora(),
        "lora-r8": _lora(r=8, target_modules=["v_proj"]),
        "lora-r16": _lora(r=16, target_modules=["v_proj"]),
        "lora-r32": _lora(r=32, target_modules=["v_proj"]),
        "lora-every-layer": _lora(target_modules=_LINEAR),
        "lora-q-only": _lora(target_modules=["q_proj"]),
        "lora-down-only": _lora(target_modules=["down_proj"]),
        "lora-last-layer": _lora(layers_to_transform=[1]),
        "lora-by-regex": _lora(target_modules=r".*\.layers\.0\.self_attn\.(q|k)_proj"),
        "lora-gaussian": _lora(init_lora_weights="gaussian"),
        "lora-embedding": _lora(target_modules=["embed_tokens"]),
        "lora-head": _lora(target_modules=["lm_head"]),
        "rslora": _lora(use_rslora=True),
        "dora": _lora(use_dora=True),
        "bias-all": _lora(bias="all"),
        "lora-bias": _lora(lora_bias=True),
        "rank-pattern": _lora(rank_pattern={"q_proj": 4}),
        "rank-pattern-too-high": _lora(target_modules=["v_proj"], rank_pattern={"layers.1.self_attn.v_proj": 32}),
        "alpha-pattern": _lora(alpha_pattern={"q_proj": 16}),
        "modules-to-save": _lora(modules_to_save=["norm"]),
        "pissa": _lora(init_lora_weights="pissa"),
        "olora": _lora(init_lora_weights="olora"),
        "alora": _lora(alora_invocation_tokens=[7, 9]),
        "layer-replication": _lora(layer_replication=[[0, 2], [1, 2]]),
        "trainable-tokens": _lora(trainable_token_indices=[5, 6]),
        "ia3": IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type=_TASK
        ),
        "adalora": AdaLoraConfig(
            init_r=4,
            target_r=2,
            lora_alpha=8,
            target_modules=_ATTENTION,
            total_step=100,
            tinit=10,
            tfinal=10,
            task_type=_TASK,
        ),
        "loha": LoHaConfig(r=2, alpha=4, target_modules=_ATTENTION, task_type=_TASK),
        "prompt-tuning": PromptTuningConfig(num_virtual_tokens=4, task_type=_TASK),
        # Weights are drawn by position in this list: new ones go to its end.
        "kasa": _lora(kasa_config=KasaConfig()),
        "bdlora": _lora(r=4, lora_alpha=8, use_bdlora=BdLoraConfig(target_modules_bd_b=_ATTENTION, nblocks=2)),
        "qalora": _lora(use_qalora=True),
        "target-parameters": _lora(target_modules=[], target_parameters=["q_proj.weight", "v_proj.weight"]),
        "lora-eva": _lora(init_lora_weights="eva"),
        "lora-mica": _lora(init_lora_weights="mica"),
        "lora-orthogonal": _lora(init_lora_weights="orthogonal"),
        "alpha-pattern-anchored": _lora(alpha_pattern={"^model.layers.0.self_attn.q_proj": 16}),
        "rank-pattern-by-regex": _lora(rank_pattern={r"layers\.1\..*q_proj": 4}),
        "rslora-with-patterns": _lora(use_rslora=True, rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 16}),
    }


def write_adapters(model: LlamaForCausalLM, folder: Path) -> None:
    """Write every adapter into its own folder under `folder`."""
    for number, (name, config) in enumerate(configs().items()):
        config.base_model_name_or_path = "tiny"
        tuned = get_peft_model(copy.deepcopy(model), copy.deepcopy(config))
        _train(tuned, seed=number)
        tuned.peft_config["default"].base_model_name_or_path = "tiny"
        target = folder / name
        tuned.save_pretrained(target, save_embedding_layers=False)
        (target / "README.md").unlink(missing_ok=True)
        _settle(target / "adapter_config.json")
    keep = folder / "lora-bf16"
    shutil.copytree(folder / "lora", keep)
    _convert(keep / "adapter_model.safetensors", torch.bfloat16)
    pickled = folder / "pickle-only"
    shutil.copytree(folder / "lora", pickled)
    _pickle(pickled)


def _settle(config_file: Path) -> None:
    """peft writes sets in the order of the day."""
    config = json.loads(config_file.read_text())
    for name, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[name] = sorted(value)
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _train(tuned: torch.nn.Module, seed: int) -> None:
    """Move every trainable weight at random, by as much as makes a clear difference."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if not parameter.requires_grad or "ranknum" in name:
                continue
            spread = 0.2
            if any(part in name for part in ("lora_magnitude", "ia3", "norm", "modules_to_save")):
                parameter.mul_(1 + 0.5 * torch.randn(parameter.shape, generator=generator))
                continue
            if "pissa" in name or parameter.dim() < 2:
                spread = 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)


def _convert(file: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


def _pickle(folder: Path) -> None:
    from safetensors.torch import load_file

    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    weights.unlink()
