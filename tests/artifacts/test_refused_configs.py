"""Configs that no engine serves as PEFT meant them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_operator.artifacts import AdapterRefused, RefusedReason, inspect
from tests.artifacts.written_adapter import BASE, config_of, write_adapter


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("r", ..., RefusedReason.RANK_INVALID),
        ("r", "4", RefusedReason.RANK_INVALID),
        ("r", 4.0, RefusedReason.RANK_INVALID),
        ("r", True, RefusedReason.RANK_INVALID),
        ("r", 0, RefusedReason.RANK_INVALID),
        ("r", 4097, RefusedReason.RANK_INVALID),
        ("rank_pattern", {"q_proj": 0}, RefusedReason.RANK_INVALID),
        ("rank_pattern", ["q_proj"], RefusedReason.CONFIG_INVALID),
        ("alpha_pattern", {"q_proj": "8"}, RefusedReason.CONFIG_INVALID),
        ("lora_alpha", ..., RefusedReason.CONFIG_INVALID),
        ("lora_alpha", "16", RefusedReason.CONFIG_INVALID),
        ("lora_alpha", 10**400, RefusedReason.CONFIG_INVALID),
        ("peft_type", "IA3", RefusedReason.PEFT_TYPE_UNSUPPORTED),
        ("peft_type", "ADALORA", RefusedReason.PEFT_TYPE_UNSUPPORTED),
        ("peft_type", ..., RefusedReason.PEFT_TYPE_UNSUPPORTED),
        ("use_dora", True, RefusedReason.DORA_UNSUPPORTED),
        ("use_dora", "yes", RefusedReason.CONFIG_INVALID),
        ("bias", "all", RefusedReason.BIAS_UNSUPPORTED),
        ("bias", "lora_only", RefusedReason.BIAS_UNSUPPORTED),
        ("lora_bias", True, RefusedReason.BIAS_UNSUPPORTED),
        ("modules_to_save", ["lm_head"], RefusedReason.MODULES_TO_SAVE_UNSUPPORTED),
        ("init_lora_weights", "pissa", RefusedReason.INIT_UNSUPPORTED),
        ("init_lora_weights", "pissa_niter_16", RefusedReason.INIT_UNSUPPORTED),
        ("init_lora_weights", "olora", RefusedReason.INIT_UNSUPPORTED),
        ("init_lora_weights", "loftq", RefusedReason.INIT_UNSUPPORTED),
        ("init_lora_weights", "corda", RefusedReason.INIT_UNSUPPORTED),
        ("init_lora_weights", 7, RefusedReason.CONFIG_INVALID),
        ("alora_invocation_tokens", [1, 2], RefusedReason.FEATURE_UNSUPPORTED),
        ("layer_replication", [[0, 1], [0, 1]], RefusedReason.FEATURE_UNSUPPORTED),
        ("use_qalora", True, RefusedReason.FEATURE_UNSUPPORTED),
        ("trainable_token_indices", [1], RefusedReason.FEATURE_UNSUPPORTED),
        ("target_parameters", ["router.table"], RefusedReason.FEATURE_UNSUPPORTED),
        ("use_something_new", True, RefusedReason.FEATURE_UNSUPPORTED),
        ("target_modules", ..., RefusedReason.TARGETS_UNSUPPORTED),
        ("target_modules", [], RefusedReason.TARGETS_UNSUPPORTED),
        ("target_modules", ["q_proj", 3], RefusedReason.TARGETS_UNSUPPORTED),
        ("target_modules", ["o_proj"], RefusedReason.TARGETS_MISMATCH),
        ("layers_to_transform", ["0"], RefusedReason.CONFIG_INVALID),
        ("layers_to_transform", [0], RefusedReason.LAYERS_MISMATCH),
        ("base_model_name_or_path", 3, RefusedReason.CONFIG_INVALID),
    ],
)
def test_refuses_with_reason_and_field(tmp_path: Path, field: str, value: Any, reason: RefusedReason) -> None:
    folder = write_adapter(tmp_path, **{field: value})
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder, base=BASE, served_base_model="tiny-base")
    assert caught.value.reason is reason
    assert field in caught.value.message or field == "r"
    assert "adapter_config.json" in caught.value.message


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"lora_alpha": 0.5},
        {"peft_type": "lora"},
        {"target_modules": "all-linear"},
        {"target_modules": r".*(q|v)_proj"},
        {"layers_to_transform": [0, 1, 2]},
        {"base_model_name_or_path": None},
        {"use_rslora": None, "lora_bias": ..., "rank_pattern": None, "modules_to_save": [], "bias": ...},
        {"some_field_of_another_tool": {"a": 1}},
    ],
)
def test_accepts_what_changes_nothing_for_the_engine(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert inspect(write_adapter(tmp_path, **changes), base=BASE, served_base_model="org/tiny-base").rank == 4


@pytest.mark.parametrize(
    ("trained_on", "served"),
    [
        ("org/tiny-base", "tiny-base"),
        ("Org/Tiny-Base", "org/tiny-base"),
        ("someone-else/tiny-base/", "org/tiny-base"),
        ("/models/whatever", "org/tiny-base"),
        ("org/tiny-base", "/models/whatever"),
        ("./checkpoint", "tiny"),
        ("C:\\models\\x", "tiny"),
        ("unsloth/tiny-base-unsloth-bnb-4bit", "org/tiny-base"),
        ("org/tiny-base", "org/tiny-base-AWQ"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        ("org/Llama-2-7b-hf", "org/llama-2-7b"),
        ("org/tiny-base", "org/tiny-base-quantized.w4a16"),
        ("org/tiny-base", "org/tiny-base-BF16"),
        ("org/tiny-base", "org/tiny-base-FP8-dynamic"),
        ("org/tiny-base", "org/tiny-base-NVFP4"),
        ("org/tiny-base-qat-q4_0-unquantized", "org/tiny-base"),
        ("org/tiny_base", "org/tiny-base"),
        ("models--org--tiny-base", "org/tiny-base"),
        ("/root/.cache/hub/models--org--tiny-base/snapshots/0a1b", "org/tiny-base"),
        ("outputs/sft/merged", "org/tiny-base"),
        ("outputs/checkpoint-500", "org/tiny-base"),
        ("C:/models/x", "org/tiny-base"),
        ("s3://bucket/models/x", "org/tiny-base"),
        ("org/other", "s3://bucket/models/x"),
    ],
)
def test_takes_names_that_can_mean_the_same_model_for_the_same(tmp_path: Path, trained_on: str, served: str) -> None:
    inspect(write_adapter(tmp_path, base_model_name_or_path=trained_on), served_base_model=served)


@pytest.mark.parametrize(
    "trained_on",
    [
        "org/tiny-base-instruct",
        "org/base",
        "org/base-1b",
        "tiny",
        "org/tiny-base-v2",
        "models--org--other",
        "org/tiny-base-7b-hf",
    ],
)
def test_refuses_the_name_of_another_model(tmp_path: Path, trained_on: str) -> None:
    with pytest.raises(AdapterRefused) as caught:
        inspect(write_adapter(tmp_path, base_model_name_or_path=trained_on), served_base_model="org/tiny-base")
    assert caught.value.reason is RefusedReason.BASE_MODEL_MISMATCH
    assert trained_on in caught.value.message
    assert "org/tiny-base" in caught.value.message


def test_the_name_of_another_model_is_only_a_doubt_where_the_layers_fit(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, base_model_name_or_path="org/other")
    (doubt,) = inspect(folder, base=BASE, served_base_model="org/tiny-base").doubts
    assert "org/other" in doubt


def test_a_name_that_may_be_made_up_contradicts_nothing(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, base_model_name_or_path="org/tiny-base")
    assert inspect(folder, served_base_model="chat", base_aliases=("/mnt/models",)).rank == 4


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        json.dumps(config_of()).replace('"r": 4', '"r": NaN').encode(),
        json.dumps(config_of()).replace('"r": 4', '"r": 4, "r": 8').encode(),
        json.dumps(config_of()).replace('"r": 4', '"r": ' + "9" * 5000).encode(),
    ],
)
def test_refuses_what_is_not_a_config(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(AdapterRefused) as caught:
        inspect(write_adapter(tmp_path, config=raw))
    assert caught.value.reason is RefusedReason.CONFIG_INVALID
    assert len(caught.value.message) < 500


def test_does_not_read_a_huge_config(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    with (folder / "adapter_config.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder)
    assert caught.value.reason is RefusedReason.CONFIG_TOO_LARGE
