"""Which adapters a resource stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.sources import select

NAMES = ("alpaca-7b", "alpaca-13b", "lora-alpaca", "Lora-x")


@pytest.mark.parametrize(
    ("given_", "chosen"),
    [
        ({}, ("Lora-x", "alpaca-13b", "alpaca-7b", "lora-alpaca")),
        ({"pattern": "*alpaca*"}, ("alpaca-13b", "alpaca-7b", "lora-alpaca")),
        ({"pattern": "alpaca-[0-9]b"}, ("alpaca-7b",)),
        ({"prefix": "lora-"}, ("lora-alpaca",)),
        ({"pattern": "*alpaca*", "prefix": "lora-"}, ("lora-alpaca",)),
        ({"adapters": ("alpaca-7b", "Lora-x")}, ("Lora-x", "alpaca-7b")),
        ({"adapters": ("alpaca-7b", "Lora-x"), "prefix": "alpaca"}, ("alpaca-7b",)),
        ({"pattern": "", "prefix": "", "adapters": ()}, ("Lora-x", "alpaca-13b", "alpaca-7b", "lora-alpaca")),
    ],
)
def test_selects_what_passes_all_that_are_given(given_: dict[str, object], chosen: tuple[str, ...]) -> None:
    assert select(NAMES, **given_) == (chosen, ())  # type: ignore[arg-type]


def test_reports_listed_names_that_are_not_there() -> None:
    chosen, broken = select(NAMES, adapters=("alpaca-7b", "ghost", "another"))
    assert chosen == ("alpaca-7b",)
    assert [(item.name, item.reason) for item in broken] == [("another", "NotFound"), ("ghost", "NotFound")]
    assert "'ghost'" in broken[1].message


@given(st.sets(st.text(max_size=5)), st.text(max_size=5), st.text(max_size=3), st.sets(st.text(max_size=5)))
def test_every_listed_name_is_chosen_filtered_or_reported(
    names: set[str], pattern: str, prefix: str, listed: set[str]
) -> None:
    chosen, broken = select(names, pattern, prefix, listed)
    assert set(chosen) <= names
    assert {item.name for item in broken} == listed - names
    if listed:
        assert set(chosen) <= listed
