"""The names that are offered where one is not known."""

from __future__ import annotations

import pytest

from lora_operator.router.entries import Entry
from lora_operator.router.near_names import near_names
from lora_operator.router.table import RoutingTable


def a_table(*names: str, namespace: str = "ns") -> RoutingTable:
    table = RoutingTable()
    table.update(((namespace, name), Entry(namespace, name, "llama", "la")) for name in names)
    return table


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("sql-assistent", "sql-assistant"),  # late
        ("qsl-assistant", "sql-assistant"),  # at the very beginning, far away in the alphabet
        ("SQL-Assistant", "sql-assistant"),
        ("sqlassistant", "sql-assistant"),
        ("sql-assistant-v2", "sql-assistant"),
        ("support-cht-fr", "support-chat-fr"),
        ("suport-chat-rf", "support-chat-fr"),
        ("lpaca-7b", "Alpaca-7B"),
    ],
)
def test_a_slip_of_the_pen_is_seen_through(wrong: str, meant: str) -> None:
    others = (f"z{number:04}-{number * 7919 % 10007:05}" for number in range(5000))
    table = a_table("sql-assistant", "support-chat-fr", "support-chat-de", "Alpaca-7B", *others)
    assert near_names(table, wrong)[0] == meant


def test_among_many_names_that_are_all_alike_the_nearest_come_first() -> None:
    table = a_table(*(f"adapter-{number:05}" for number in range(10_000)))
    assert "adapter-01234" in near_names(table, "adaptre-01234")
    assert near_names(table, "adapter-012345")[0] == "adapter-01234"
    assert len(near_names(table, "adapter-x")) == 5


@pytest.mark.parametrize("strange", ["x", "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9", "n" * 200, "n" * 253, "a b", "."])
def test_nothing_is_offered_for_what_is_like_nothing(strange: str) -> None:
    assert near_names(a_table("sql-assistant", "chat"), strange) == ()


def test_only_names_of_the_namespace_that_was_asked_for_are_offered() -> None:
    table = a_table("sql", "sqm")
    table.update([(("other", "sqn"), Entry("other", "sqn", "llama", "la"))])
    assert near_names(table, "sqx", "other") == ("sqn",)
    assert near_names(table, "sqx", "third") == ()
    assert near_names(table, "sqx") == ("sql", "sqm", "sqn")


def test_names_that_come_and_go_are_followed() -> None:
    table = a_table("sql-assistant")
    assert near_names(table, "xql-assistant") == ("sql-assistant",)
    table.update([(("ns", "sql-assistant"), None), (("ns", "yql-assistant"), Entry("ns", "yql-assistant", "l", "la"))])
    assert near_names(table, "xql-assistant") == ("yql-assistant",)
