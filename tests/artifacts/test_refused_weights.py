"""Weights that are half-written, put together wrongly, hostile, or of another model."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_operator.artifacts import AdapterRefused, RefusedReason, inspect
from tests.artifacts.written_adapter import (
    BASE,
    Shape,
    lora_tensors,
    safetensors_bytes,
    tensor_name,
    with_header,
    write_adapter,
)

Q0, Q1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"
GOOD = safetensors_bytes(lora_tensors())


def reason_of(folder: Path, *, known: bool = True) -> RefusedReason:
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder, base=BASE if known else None)
    assert len(caught.value.message) < 800
    return caught.value.reason


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, len(GOOD) // 2, len(GOOD) - 1])
def test_refuses_every_kind_of_half_written_file(tmp_path: Path, length: int) -> None:
    assert reason_of(write_adapter(tmp_path, weights=GOOD[:length])) is RefusedReason.FILE_TRUNCATED


def test_refuses_a_file_that_has_its_length_but_not_its_content_yet(tmp_path: Path) -> None:
    assert reason_of(write_adapter(tmp_path, weights=bytes(len(GOOD)))) is RefusedReason.HEADER_INVALID


def test_refuses_trailing_data(tmp_path: Path) -> None:
    assert reason_of(write_adapter(tmp_path, weights=GOOD + b"\0")) is RefusedReason.TRAILING_DATA


def entry(dtype: object = "F16", shape: object = (1, 2), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", RefusedReason.HEADER_INVALID),
        (b"not json", RefusedReason.HEADER_INVALID),
        (b"{", RefusedReason.HEADER_INVALID),
        (b'{"a":' * 200_000, RefusedReason.HEADER_INVALID),
        (b"[]", RefusedReason.HEADER_INVALID),
        (b"{}", RefusedReason.HEADER_INVALID),
        (b'{"\xff":1}', RefusedReason.HEADER_INVALID),
        ({"__metadata__": {"format": "pt"}}, RefusedReason.HEADER_INVALID),
        ({"__metadata__": {"format": 1}, "a": entry()}, RefusedReason.HEADER_INVALID),
        ({"a": []}, RefusedReason.HEADER_INVALID),
        ({"a": {}}, RefusedReason.DTYPE_UNSUPPORTED),
        ({"a": entry(dtype="I64")}, RefusedReason.DTYPE_UNSUPPORTED),
        ({"a": entry(dtype="F8_E4M3")}, RefusedReason.DTYPE_UNSUPPORTED),
        ({"a": entry(shape=None)}, RefusedReason.HEADER_INVALID),
        ({"a": entry(shape=[1, True])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(shape=[-1, -2])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(shape=[10**30, 2])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(shape=[0, 2], offsets=[0, 0])}, RefusedReason.SHAPE_MISMATCH),
        ({"a": entry(shape=[1] * 9)}, RefusedReason.SHAPE_MISMATCH),
        ({"a": entry(offsets=[4, 0])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(offsets=[0])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(offsets=[0, 4.0])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(offsets=[4, 8])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(), "b": entry(offsets=[2, 6])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(), "b": entry(offsets=[0, 4])}, RefusedReason.HEADER_INVALID),
        ({"a": entry(), "b": entry(offsets=[6, 10])}, RefusedReason.HEADER_INVALID),
        ({"a\nb": entry()}, RefusedReason.TENSOR_UNEXPECTED),
        ({"a" * 2000: entry()}, RefusedReason.TENSOR_UNEXPECTED),
        (b'{"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]},"a":{}}', RefusedReason.HEADER_INVALID),
    ],
)
def test_refuses_hostile_headers(tmp_path: Path, header: object, reason: RefusedReason) -> None:
    assert reason_of(write_adapter(tmp_path, weights=with_header(header, bytes(4)))) is reason


def test_does_not_believe_a_header_length_that_would_fill_the_memory(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, weights=struct.pack("<Q", 1 << 39) + b"{")
    with (folder / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(1 << 40)
    assert reason_of(folder) is RefusedReason.HEADER_INVALID


def without(part: str) -> dict[str, Shape]:
    return {name: shape for name, shape in lora_tensors().items() if part not in name}


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        (without(f"{Q1}.lora_B"), RefusedReason.PAIR_INCOMPLETE),
        (without("layers.1"), RefusedReason.LAYERS_MISMATCH),
        (without("layers.1.self_attn.v_proj"), RefusedReason.LAYERS_MISMATCH),
        (without("v_proj"), RefusedReason.TARGETS_MISMATCH),
        (lora_tensors() | {tensor_name(Q0, "B"): (16, 2)}, RefusedReason.RANK_MISMATCH),
        (lora_tensors() | {tensor_name(Q0, "A"): (4, 8)}, RefusedReason.SHAPE_MISMATCH),
        (lora_tensors() | {tensor_name(Q0, "A"): (4, 32)}, RefusedReason.SHAPE_MISMATCH),
        (lora_tensors() | {tensor_name(Q0, "B"): (8, 4)}, RefusedReason.SHAPE_MISMATCH),
        (lora_tensors() | {tensor_name(Q0, "A"): (4, 4, 4)}, RefusedReason.SHAPE_MISMATCH),
        (lora_tensors(layers=3), RefusedReason.LAYERS_MISMATCH),
        (lora_tensors() | {"base_model.model.model.norm.weight": (16,)}, RefusedReason.TENSOR_UNEXPECTED),
        (lora_tensors() | {f"base_model.model.{Q0}.lora_B.bias": (16,)}, RefusedReason.BIAS_UNSUPPORTED),
        (lora_tensors() | {f"base_model.model.{Q0}.bias": (16,)}, RefusedReason.BIAS_UNSUPPORTED),
        (lora_tensors() | {f"base_model.model.{Q0}.lora_magnitude_vector": (16,)}, RefusedReason.DORA_UNSUPPORTED),
        (lora_tensors() | {f"base_model.model.{Q0}.lora_E": (4, 1)}, RefusedReason.PEFT_TYPE_UNSUPPORTED),
        (lora_tensors() | {f"{Q0}.lora_A.weight": (4, 16)}, RefusedReason.TENSOR_UNEXPECTED),
        ({tensor_name("../../x", "A"): (4, 16)}, RefusedReason.TENSOR_UNEXPECTED),
        (
            {tensor_name("model.layers.00.q_proj", half): (4, 4) for half in "AB"},
            RefusedReason.TENSOR_UNEXPECTED,
        ),
        ({tensor_name("model.layers.²", "A"): (4, 16)}, RefusedReason.TENSOR_UNEXPECTED),
        ({f"base_model.model.{Q0}.lora_A.default.weight": (4, 16)}, RefusedReason.TENSOR_UNEXPECTED),
        ({tensor_name("model.layers.0.mlp.experts.base_layer", "A"): (4, 16)}, RefusedReason.FEATURE_UNSUPPORTED),
    ],
)
def test_refuses_what_does_not_belong_together(tmp_path: Path, shapes: dict[str, Shape], reason: RefusedReason) -> None:
    assert reason_of(write_adapter(tmp_path, shapes=shapes)) is reason


@pytest.mark.parametrize("path", ["model.layers.0.self_attn.qq_proj", "model.layers.0.q_proj", "q_proj", "lm_head.0"])
def test_refuses_modules_that_the_base_does_not_have(tmp_path: Path, path: str) -> None:
    shapes = lora_tensors() | {tensor_name(path, "A"): (4, 16), tensor_name(path, "B"): (16, 4)}
    folder = write_adapter(tmp_path, shapes=shapes, target_modules=["q_proj", "v_proj", "qq_proj", "0"])
    assert reason_of(folder) is RefusedReason.TARGETS_UNSUPPORTED


def one_module(template: str, layers: list[int], size: Callable[[int], tuple[int, int]]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for layer in layers:
        inputs, outputs = size(layer)
        shapes[tensor_name(template.format(layer), "A")] = (4, inputs)
        shapes[tensor_name(template.format(layer), "B")] = (outputs, 4)
    return shapes


def square(layer: int) -> tuple[int, int]:
    return 16, 16


Q = "model.layers.{}.self_attn.q_proj"


@pytest.mark.parametrize(
    "shapes",
    [
        one_module(Q, list(range(8)), square),
        one_module(Q, [3, 7, 11, 15], square),  # attention in every fourth layer
        one_module("model.layers.{}.mlp.experts.0.q_proj", [3, 4, 5, 6], square),  # dense layers first
        one_module(Q, list(range(12)), lambda layer: (16, 32 if layer % 6 == 5 else 16)),  # wider heads in every sixth
        one_module("model.layers.{}.linear_attn.q_proj", [0, 1, 2, 4, 5, 6, 8, 9, 10], square),
    ],
)
def test_without_the_base_model_regular_differences_between_layers_are_fine(
    tmp_path: Path, shapes: dict[str, Shape]
) -> None:
    assert inspect(write_adapter(tmp_path, shapes=shapes)).rank == 4


@pytest.mark.parametrize(
    ("shapes", "doubt"),
    [
        (one_module(Q, [0, 1, 2, 4, 5, 6, 7], square), "has no tensors for model.layers.3.self_attn.q_proj"),
        (one_module(Q, [2, 5, 8, 10, 12, 14], square), "has no tensors for model.layers.3.self_attn.q_proj"),
        (one_module(Q, [10, 11], square), "has no tensors for model.layers.{}.self_attn.q_proj before layer 10"),
        (one_module(Q, list(range(4)), lambda layer: (16 + layer // 3, 16)), "adapts model.layers.3.self_attn.q_proj"),
        (without("layers.1.self_attn.v_proj"), "has no tensors for model.layers.1.self_attn.v_proj"),
    ],
)
def test_without_the_base_model_a_layer_that_stands_out_is_a_doubt_and_no_refusal(
    tmp_path: Path, shapes: dict[str, Shape], doubt: str
) -> None:
    found = inspect(write_adapter(tmp_path, shapes=shapes))
    assert doubt in "; ".join(found.doubts)


def test_without_the_base_model_what_reads_one_input_must_have_its_width(tmp_path: Path) -> None:
    shapes = one_module(Q, [0, 1], square) | one_module(Q.replace("q_proj", "v_proj"), [0, 1], lambda layer: (24, 8))
    assert reason_of(write_adapter(tmp_path, shapes=shapes), known=False) is RefusedReason.SHAPE_MISMATCH


def test_not_every_number_in_a_path_is_a_layer(tmp_path: Path) -> None:
    shapes = lora_tensors()
    for path, inputs, outputs in (("visual.merger.mlp.0", 64, 64), ("visual.merger.mlp.2", 64, 32)):
        shapes |= {tensor_name(path, "A"): (4, inputs), tensor_name(path, "B"): (outputs, 4)}
    found = inspect(write_adapter(tmp_path, shapes=shapes, target_modules=["q_proj", "v_proj", "mlp.0", "mlp.2"]))
    assert found.layers == 2
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
        (b"PK\x03\x04" + bytes(40), "torch.save"),
        (b"", "is empty"),
    ],
)
def test_names_what_lies_in_the_place_of_the_weights(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(AdapterRefused, match=says):
        inspect(write_adapter(tmp_path, weights=content), base=BASE)


def test_without_the_base_model_the_parts_of_an_mlp_must_fit_together(tmp_path: Path) -> None:
    shapes = lora_tensors(targets=("gate_proj", "up_proj", "down_proj"))
    for part, half, shape in (("down_proj", "A", (4, 20)), ("up_proj", "B", (20, 4)), ("gate_proj", "A", (4, 20))):
        wrong = {name: shape if f"{part}.lora_{half}" in name else size for name, size in shapes.items()}
        folder = write_adapter(tmp_path / part, shapes=wrong, target_modules=["gate_proj", "up_proj", "down_proj"])
        assert reason_of(folder, known=False) is RefusedReason.SHAPE_MISMATCH


def test_layers_that_are_left_out_on_purpose_are_fine(tmp_path: Path) -> None:
    shapes = without("layers.0")
    for number, said in enumerate(
        (
            {"layers_to_transform": [1]},
            {"layers_to_transform": 1},
            {"target_modules": r".*layers\.1\..*"},
            {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        )
    ):
        folder = write_adapter(tmp_path / str(number), shapes=shapes, **said)
        assert inspect(folder, base=BASE).layers == inspect(folder).layers == 1


def test_a_listed_layer_that_has_no_tensors_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, shapes=without("layers.0"), layers_to_transform=[0, 1])
    assert reason_of(folder) is RefusedReason.LAYERS_MISMATCH


def test_says_what_to_do_and_where(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, shapes=lora_tensors() | {tensor_name(Q0, "A"): (4, 8)})
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder, base=BASE)
    assert caught.value.message == (
        f"adapter_model.safetensors: tensor {tensor_name(Q0, 'A')} belongs to a layer of 8→16, but {Q0} of the base "
        "model is 16→16: use an adapter of this base model"
    )
