"""The record of who was asked for: what is written, what of it is believed, and what is thrown away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lora_operator.api.usage_record import (
    MOST_BYTES,
    MOST_ENTRIES,
    REMEMBERED_SECONDS,
    Use,
    entry_of,
    fits,
    key_of,
    outdated,
    read_entries,
)
from lora_operator.kube.own_namespace import DEFAULT_NAMESPACE, own_namespace

AT = datetime(2026, 11, 21, 17, 50, tzinfo=UTC)
NOW = AT.timestamp()


def written(namespace: str = "ns", name: str = "sql", ago: float = 0.0) -> dict[str, str]:
    return dict([entry_of(namespace, name, AT - timedelta(seconds=ago))])


def test_what_is_written_is_read() -> None:
    data = written("team-a", "sql.v2_1") | written("team-b", "sql.v2_1", ago=60)
    found, problems = read_entries(data)
    assert found == {("team-a", "sql.v2_1"): AT, ("team-b", "sql.v2_1"): AT - timedelta(seconds=60)}
    assert not problems and read_entries(None) == ({}, {})


def test_a_key_is_valid_in_a_config_map_and_the_time_is_utc_whatever_the_clock_of_the_writer() -> None:
    key, value = entry_of("ns", "x" * 128, AT.astimezone(timezone(timedelta(hours=5))))
    assert len(key) == 32 and key.isalnum() and key == key_of("ns", "x" * 128)
    assert json.loads(value) == {"namespace": "ns", "name": "x" * 128, "at": "2026-11-21T17:50:00Z"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("[" * 400, "not a JSON object"),
        ("x" * 600, "at most 512 characters"),
        (7, "not a text"),
        ('{"namespace": "../x", "name": "sql", "at": "2026-11-21T17:50:00Z"}', "namespace"),
        ('{"namespace": 1, "name": "sql", "at": "2026-11-21T17:50:00Z"}', "namespace"),
        ('{"namespace": "ns", "at": "2026-11-21T17:50:00Z"}', "name is not a text"),
        ('{"namespace": "ns", "name": "a/b", "at": "2026-11-21T17:50:00Z"}', "not allowed"),
        ('{"namespace": "ns", "name": "other", "at": "2026-11-21T17:50:00Z"}', "not the key of adapter 'other'"),
        ('{"namespace": "ns", "name": "sql", "at": "yesterday"}', "time is not like"),
        ('{"namespace": "ns", "name": "sql", "at": "9999-99-21T17:50:00Z"}', "time is not like"),
        ('{"namespace": "ns", "name": "sql"}', "time is not like"),
    ],
)
def test_what_makes_no_sense_is_told_and_spoils_nothing_else(value: object, words: str) -> None:
    found, problems = read_entries({key_of("ns", "sql"): value} | written("ns", "good"))
    assert list(found) == [("ns", "good")]
    assert list(problems) == [key_of("ns", "sql")] and words in problems[key_of("ns", "sql")]


def test_more_than_an_api_server_takes_does_not_fit() -> None:
    assert fits({}) and fits({str(n): "x" for n in range(MOST_ENTRIES)})
    assert not fits({str(n): "x" for n in range(MOST_ENTRIES + 1)})
    assert not fits({"a": "x" * MOST_BYTES, "b": "x"})


def test_a_record_counts_for_a_while_and_one_from_the_future_no_longer() -> None:
    use = Use({("ns", "new"): NOW - 300, ("ns", "old"): NOW - 301, ("ns", "odd"): NOW + 301}, NOW, 300.0)
    assert [use.wants(("ns", name)) for name in ("new", "old", "odd", "never")] == [True, False, False, False]
    assert use.last_used(("ns", "old")) == NOW - 301 and use.last_used(("ns", "never")) == 0
    assert use.last_used(("ns", "odd")) == NOW


def test_what_says_nothing_any_more_is_thrown_away() -> None:
    data = (
        written(name="asked", ago=10) | written(name="unknown-and-asked", ago=10) | written(name="unknown", ago=400)
        | written(name="idle", ago=400) | written(name="long-idle", ago=REMEMBERED_SECONDS + 1)
        | written(name="from-the-future", ago=-400) | {"nonsense": "?"}
    )  # fmt: skip
    known = {("ns", name) for name in ("asked", "idle", "long-idle", "from-the-future")}
    found, _ = read_entries(data)
    asked = {name: at.timestamp() for name, at in found.items()}
    gone = outdated(data, asked, known, 300.0, NOW)
    assert set(gone) == {*(key_of("ns", n) for n in ("unknown", "long-idle", "from-the-future")), "nonsense"}
    crowd = data | {str(n): "?" for n in range(MOST_ENTRIES // 2)}
    assert key_of("ns", "idle") in outdated(crowd, asked, known, 300.0, NOW)
    assert key_of("ns", "asked") not in outdated(crowd, asked, known, 300.0, NOW)


def test_the_own_namespace_is_the_chosen_one_or_the_pods(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "namespace"
    assert own_namespace("", {}, file) == DEFAULT_NAMESPACE
    file.write_text("from-the-account\n")
    assert own_namespace("", {}, file) == "from-the-account"
    assert own_namespace("", {"POD_NAMESPACE": "from-the-pod"}, file) == "from-the-pod"
    assert own_namespace("chosen", {"POD_NAMESPACE": "from-the-pod"}, file) == "chosen"
