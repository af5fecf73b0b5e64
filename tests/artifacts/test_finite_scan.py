"""Finding NaN and infinite values, in every dtype, at every place."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.artifacts import AdapterRefused, RefusedReason, inspect
from lora_operator.artifacts import scan as scan_module
from lora_operator.artifacts.header import Tensor
from lora_operator.artifacts.scan import is_finite, sha256_of_finite
from tests.artifacts.written_adapter import BASE, lora_tensors, small_values, tensor_name, write_adapter

V1_B = tensor_name("model.layers.1.self_attn.v_proj", "B")


def unpacked(data: bytes, dtype: str) -> list[float]:
    if dtype == "F16":
        return list(struct.unpack(f"<{len(data) // 2}e", data))
    if dtype == "F32":
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    widened = b"".join(b"\0\0" + data[index : index + 2] for index in range(0, len(data), 2))
    return list(struct.unpack(f"<{len(data) // 2}f", widened))


@given(st.binary(max_size=400), st.sampled_from(["F16", "BF16", "F32"]))
def test_agrees_with_the_arithmetic_for_any_bytes(data: bytes, dtype: str) -> None:
    data = data[: len(data) // 4 * 4]
    assert is_finite(data, dtype) == all(map(math.isfinite, unpacked(data, dtype)))


@pytest.mark.parametrize("high", range(256))
def test_agrees_with_the_arithmetic_around_every_high_byte(high: int) -> None:
    for low in (0x00, 0x01, 0x7F, 0x80, 0x81, 0xFF):
        word = bytes((low, high))
        for dtype in ("F16", "BF16"):
            assert is_finite(word, dtype) == math.isfinite(unpacked(word, dtype)[0])
        assert is_finite(b"\0\0" + word, "F32") == math.isfinite(unpacked(b"\0\0" + word, "F32")[0])


def test_does_not_mix_up_bytes_of_neighbouring_values() -> None:
    # a full high byte here and a set low byte there are two large values, not one infinity
    assert is_finite(bytes.fromhex("007f803f"), "BF16")
    assert not is_finite(bytes.fromhex("807f003f"), "BF16")


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        ("F16", struct.pack("<e", math.nan)),
        ("F16", struct.pack("<e", -math.inf)),
        ("BF16", struct.pack("<f", math.inf)[2:]),
        ("BF16", struct.pack("<f", math.nan)[2:]),
        ("F32", struct.pack("<f", math.nan)),
        ("F32", struct.pack("<f", -math.inf)),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [8, 1 << 20])
def test_names_the_tensor_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, bad: bytes, chunk_bytes: int
) -> None:
    monkeypatch.setattr(scan_module, "CHUNK_BYTES", chunk_bytes)
    shapes = lora_tensors()
    values = small_values(8 * 4, dtype, 1)
    folder = write_adapter(tmp_path, shapes=shapes, dtype=dtype, data={V1_B: values[: -len(bad)] + bad})
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder, base=BASE)
    assert caught.value.reason is RefusedReason.NOT_FINITE
    assert V1_B in caught.value.message


def test_tensors_of_several_dtypes_in_one_file_are_each_read_as_what_they_are(tmp_path: Path) -> None:
    # 16-bit data that would be NaN if it were read at the wrong width, then a float32 tensor at an odd place
    half = bytes.fromhex("ff3b") * 3
    full = struct.pack("<f", 1.0) * 2
    path = tmp_path / "data"
    path.write_bytes(b"12345" + half + full)
    tensors = [Tensor("a", "F16", (3,), 5, 11), Tensor("b", "F32", (2,), 11, 19)]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert len(sha256_of_finite(descriptor, tensors, 19)) == 64
    finally:
        os.close(descriptor)
