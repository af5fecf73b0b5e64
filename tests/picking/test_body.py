"""The model in a body is found and replaced, and nothing else of the body changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_operator.picking.model_field import MOST_MEMBERS, MOST_VALUES, BadBody, read_body

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(max_size=5), values, max_size=4), st.text(min_size=1, max_size=20), st.booleans(),
    st.sampled_from([None, 1, 3]), st.text(min_size=1, max_size=9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_only_the_model_changes(
    others: dict[str, Any], model: str, ascii_only: bool, indent: int | None, new: str
) -> None:
    whole = {**others, "model": model}
    read = read_body(json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass"))
    assert read.model == model
    assert json.loads(read.with_model(new)) == {**whole, "model": new}


def test_what_json_libraries_would_change_reaches_the_engine_as_it_came() -> None:
    raw = (
        b'{ "seed": 12345678901234567890123, "t": 1.10, "model" : "a", "x": 1, "x": 2, "e": 1e400, "u": "\\u00e9\\/" }'
    )
    assert read_body(raw).with_model("b") == raw.replace(b'"a"', b'"b"')


def test_a_model_that_is_named_twice_is_the_last_one_and_all_are_replaced() -> None:
    read = read_body(b'{"model": "mine", "mod\\u0065l": "theirs"}')
    assert read.model == "theirs"
    assert read.with_model("x") == b'{"model": "x", "mod\\u0065l": "x"}'


def test_a_model_deeper_in_the_body_is_something_else() -> None:
    read = read_body(b'{"tools": [{"model": "no"}], "model": "yes", "meta": {"model": "no"}}')
    assert read.with_model("x") == b'{"tools": [{"model": "no"}], "model": "x", "meta": {"model": "no"}}'


def test_places_are_those_of_bytes_and_any_white_space_is_skipped_at_once() -> None:
    raw = '{"é": "\U0001f600",%s"model": "ä", "ü": 1, "model": "ö"}'.encode() % (b" \r\n\t" * 1000)
    assert read_body(raw).with_model("x") == raw.replace("ä".encode(), b"x").replace("ö".encode(), b"x")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"[1]", "not JSON"),
        (b'{"model": "a"', "not JSON"),
        (b'{"model": "a"} x', "not JSON"),
        (b'{"model" "a"}', "not JSON"),
        (b'{model: "a"}', "not JSON"),
        (b'{"model": "a",}', "not JSON"),
        (b'{"deep": ' + b"[" * 100_000, "not JSON"),
        (b'{"prompt": "x"}', 'no "model"'),
        (b"{}", 'no "model"'),
        (b'{"model": 7}', "not a name"),
        (b'{"model": null}', "not a name"),
        (b'{"model": ""}', "not a name"),
        (b'{"model": "%s"}' % (b"a" * 513), "not a name"),
        ('{"model": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'{"model": "\xff"}', "not UTF-8"),
        (b'{"model": "a", "n": %s}' % (b"1" * 5000), "not JSON"),
        (b'{"model": "a", "x": [%s1]}' % (b"{}," * MOST_VALUES), "too many parts"),
        (b'{"model": "a"%s}' % (b', "x": 1' * MOST_MEMBERS), "members"),
        (b'--boundary\r\nContent-Disposition: form-data; name="model"\r\n\r\na', "not JSON"),
    ],
)
def test_a_body_that_names_no_model_is_refused_with_what_is_wrong(raw: bytes, says: str) -> None:
    with pytest.raises(BadBody, match=says):
        read_body(raw)
