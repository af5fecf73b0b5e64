"""Whatever stands in the two files, the answer is an Inspection or AdapterRefused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_operator.artifacts import AdapterRefused, BaseModelShape, Inspection, inspect
from tests.artifacts.written_adapter import (
    BASE,
    config_of,
    lora_tensors,
    safetensors_bytes,
    with_header,
    write_adapter,
)

GOOD = safetensors_bytes(lora_tensors())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def answer(folder: Path, base: BaseModelShape | None = BASE) -> Inspection | AdapterRefused:
    try:
        return inspect(folder, base=base, served_base_model="org/tiny-base")
    except AdapterRefused as refused:
        assert refused.message
        assert "\n" not in refused.message
        assert len(refused.message) < 1500
        return refused


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_as_config(folder: Path, raw: bytes) -> None:
    assert isinstance(answer(write_adapter(folder, config=raw)), AdapterRefused)


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_as_weights(folder: Path, raw: bytes) -> None:
    assert isinstance(answer(write_adapter(folder, weights=raw)), AdapterRefused)


@fuzz
@given(st.sampled_from([*config_of(), "use_new", "exclude_modules", "arrow_config"]), json_values)
def test_any_value_in_any_field_of_the_config(folder: Path, field: str, value: Any) -> None:
    answer(write_adapter(folder, **{field: value}))
    answer(folder, base=None)


@fuzz
@given(st.dictionaries(st.text(max_size=30) | st.sampled_from(sorted(lora_tensors())), json_values, max_size=4))
def test_any_json_as_header(folder: Path, header: dict[str, Any]) -> None:
    assert isinstance(answer(write_adapter(folder, weights=with_header(header, bytes(16)))), AdapterRefused)


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(sorted(lora_tensors(layers=3))) | st.text(max_size=30),
        st.lists(st.integers(0, 20), max_size=3).map(tuple),
        max_size=8,
    )
)
def test_any_tensors_of_any_shape(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    weights = safetensors_bytes(shapes)
    answer(write_adapter(folder, weights=weights))
    answer(folder, base=None)


@fuzz
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_single_byte_of_a_good_file_changed(folder: Path, position: int, value: int) -> None:
    changed = bytearray(GOOD)
    changed[position] = value
    answer(write_adapter(folder, weights=bytes(changed)))
    answer(folder, base=None)


@fuzz
@given(st.integers(0, len(GOOD)), st.binary(max_size=20))
def test_a_good_file_cut_anywhere_with_anything_behind_it(folder: Path, length: int, tail: bytes) -> None:
    weights = GOOD[:length] + tail
    found = answer(write_adapter(folder, weights=weights))
    # the same length with other values at the end is another good adapter, or one with NaN in it
    assert isinstance(found, AdapterRefused) or len(weights) == len(GOOD)


@fuzz
@given(st.text(alphabet=r"qproj_.*+?()[]|\^$09{}", max_size=40))
def test_any_key_in_a_pattern(folder: Path, key: str) -> None:
    answer(write_adapter(folder, config=json.dumps(config_of(rank_pattern={key: 4})).encode()))
