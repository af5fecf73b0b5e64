"""Adapter names, fingerprints, and the shapes of base models."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_operator.artifacts import (
    AdapterFile,
    BaseModelShape,
    InvalidAdapterName,
    fingerprint,
    inspect,
    valid_adapter_name,
)
from tests.artifacts.written_adapter import write_adapter


@pytest.mark.parametrize("name", ["a", "A1", "alpaca-lora-7b", "a.b_c-d", "9lives", "x" * 128, "a--b", "a--1234567"])
def test_allows_ordinary_names(name: str) -> None:
    valid_adapter_name(name, base_model="base")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a..b", "../a", "a/b", "/a", "a,b", "a b", "-a", "_a", ".a", "a\n", "a\0", "é", "a" * 129,
        "base", "a--0123abcd", "a--0123456789abcdef", "m--DEADBEEF", "a%2f", "a:b", "a\\b", "ａ",
    ],
)  # fmt: skip
def test_refuses_hostile_and_reserved_names(name: str) -> None:
    with pytest.raises(InvalidAdapterName) as caught:
        valid_adapter_name(name, base_model="base")
    assert len(str(caught.value)) < 300


def files(*, swap: bool = False, size: int = 3) -> list[AdapterFile]:
    listed = [AdapterFile("a", size, "00" * 32), AdapterFile("b", 4, "11" * 32)]
    return listed[::-1] if swap else listed


def test_what_a_store_says_counts_only_together_with_the_store() -> None:
    tagged = [AdapterFile("a", 3, tag="etag")]
    assert fingerprint(tagged, "s3 one.example bucket") == fingerprint(tagged, "s3 one.example bucket")
    assert fingerprint(tagged, "s3 one.example bucket") != fingerprint(tagged, "s3 other.example bucket")
    # a digest as well: a store that claims the digest of what another has would be given that from the cache
    assert fingerprint(files(), "s3 theirs.example bucket") != fingerprint(files(), "s3 mine.example bucket")
    assert fingerprint(files(), "s3 mine.example bucket") != fingerprint(files())
    assert fingerprint([AdapterFile("a", 3, "00" * 32)], "x") != fingerprint([AdapterFile("a", 3, tag="00" * 32)], "y")
    with pytest.raises(ValueError, match="neither"):
        fingerprint(tagged)


def test_a_fingerprint_depends_on_content_only(tmp_path: Path) -> None:
    assert fingerprint(files()) == fingerprint(files(swap=True))
    assert fingerprint(files()) != fingerprint(files(size=5))
    assert len(fingerprint(files())) == 16

    folder = write_adapter(tmp_path / "a")
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    os.utime(other / "adapter_model.safetensors", (1, 1))
    (other / "README.md").write_text("not read by any engine")
    (other / "tokenizer.json").write_text("{}")
    assert fingerprint(inspect(folder).files) == fingerprint(inspect(other).files)
    write_adapter(other, seed=1)
    assert fingerprint(inspect(folder).files) != fingerprint(inspect(other).files)


LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 512,
}


def shape_of(folder: Path, **changes: Any) -> BaseModelShape | None:
    config = {key: value for key, value in (LLAMA | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(config))
    return BaseModelShape.from_config(folder / "config.json")


def test_reads_the_shape_of_a_llama(tmp_path: Path) -> None:
    assert shape_of(tmp_path) == BaseModelShape(64, 128, 4, 2, 16, 2, 512)
    assert shape_of(tmp_path, head_dim=32) == BaseModelShape(64, 128, 4, 2, 32, 2, 512)
    assert shape_of(tmp_path, num_key_value_heads=...) == BaseModelShape(64, 128, 4, 4, 16, 2, 512)
    known = shape_of(tmp_path, head_dim=32)
    assert known is not None
    assert known.modules()["model.layers.{}.self_attn.k_proj"] == (64, 64)
    assert known.modules()["model.layers.{}.self_attn.o_proj"] == (128, 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["Gemma3nForConditionalGeneration"]},
        {"architectures": ["LlamaForCausalLM", "Other"]},
        {"architectures": ...},
        {"hidden_size": "64"},
        {"hidden_size": 0},
        {"num_hidden_layers": True},
        {"num_attention_heads": 5},
        {"num_key_value_heads": "2"},
        {"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": ...},
        {"architectures": ["Qwen3ForCausalLM"]},
    ],
)
def test_never_guesses_a_shape(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert shape_of(tmp_path, **changes) is None


def test_a_base_config_that_is_none_gives_no_shape(tmp_path: Path) -> None:
    assert BaseModelShape.from_config(tmp_path / "config.json") is None
    for text in ("", "[]", "[" * 100_000):
        (tmp_path / "config.json").write_text(text)
        assert BaseModelShape.from_config(tmp_path / "config.json") is None
