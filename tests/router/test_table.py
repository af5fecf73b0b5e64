"""The table's versions and log, and what is asked of it in Python."""

from __future__ import annotations

import pytest

from lora_operator.router import (
    AmbiguousAdapter,
    RoutingTable,
    UnknownAdapter,
    get_pods_for_adapter,
    list_available_adapters,
)
from lora_operator.router.pages import BadToken, page_of
from tests.router.fleet import NAMESPACE, Fleet, a_fleet


def test_a_version_counts_changes_and_nothing_else() -> None:
    fleet = a_fleet()
    before = fleet.table.version
    told: list[int] = []
    fleet.table.listen(lambda: told.append(fleet.table.version))
    fleet.pod("vllm-0", "10.0.0.1")  # seen again, as it was
    assert fleet.refresh() == 0
    assert (fleet.table.version, told) == (before, [])
    fleet.pod("vllm-0", "10.0.0.1", ready=False)
    assert fleet.refresh() == 2
    assert (fleet.table.version, told) == (before + 2, [before + 2])


def test_the_log_gives_what_came_after_a_version_as_far_back_as_it_goes() -> None:
    fleet = a_fleet(log_length=3)
    table = fleet.table
    for ready in (False, True):
        fleet.pod("vllm-1", "10.0.0.2", ready=ready)
        fleet.refresh()
    assert table.version == 4
    assert [change.version for change in table.since(1) or ()] == [2, 3, 4]
    assert table.since(4) == []
    assert table.since(0) is None  # longer ago than the log is
    assert table.since(5) is None  # never was


def test_who_no_longer_listens_is_not_called() -> None:
    fleet = a_fleet()
    told: list[int] = []
    end = fleet.table.listen(lambda: told.append(1))
    end()
    fleet.drop_adapter("two")
    fleet.refresh()
    assert told == []


def test_two_processes_have_tags_of_their_own() -> None:
    assert RoutingTable().tag != RoutingTable().tag


def test_available_adapters_are_those_that_a_pod_answers_for() -> None:
    fleet = a_fleet()
    fleet.adapter("lazy", names=("idle",), base_model="llama")
    fleet.pod("vllm-0", "10.0.1.1", namespace="team-b")
    fleet.adapter("other", {"vllm-0": {"poet": "poet"}}, namespace="team-b", base_model="qwen")
    fleet.refresh()
    table = fleet.table
    assert [entry.name for entry in list_available_adapters(table, "llama")] == ["chat", "sql"]
    assert [entry.name for entry in list_available_adapters(table)] == ["chat", "sql", "poet"]
    assert [entry.name for entry in list_available_adapters(table, namespace="team-b")] == ["poet"]
    assert list_available_adapters(table, "mistral") == ()


def test_pods_of_an_adapter_none_and_unknown_are_three_answers() -> None:
    fleet = a_fleet()
    fleet.adapter("lazy", names=("idle",))
    fleet.refresh()
    assert [one.pod for one in get_pods_for_adapter(fleet.table, "sql")] == ["vllm-0", "vllm-1"]
    assert get_pods_for_adapter(fleet.table, "idle") == ()
    with pytest.raises(UnknownAdapter, match="did you mean sql"):
        get_pods_for_adapter(fleet.table, "sqll")
    with pytest.raises(UnknownAdapter, match="adapter sql is not known in namespace team-b"):
        get_pods_for_adapter(fleet.table, "sql", namespace="team-b")
    with pytest.raises(UnknownAdapter, match="GET /v1/adapters lists"):
        get_pods_for_adapter(RoutingTable(), "sql")


def test_a_name_that_several_namespaces_have_needs_the_namespace() -> None:
    fleet = a_fleet()
    fleet.pod("vllm-0", "10.0.1.1", namespace="team-b")
    fleet.adapter("theirs", {"vllm-0": {"sql": "sql"}}, namespace="team-b")
    fleet.refresh()
    with pytest.raises(AmbiguousAdapter, match="team-a, team-b") as caught:
        get_pods_for_adapter(fleet.table, "sql")
    assert caught.value.namespaces == ("team-a", "team-b")
    assert [one.address for one in get_pods_for_adapter(fleet.table, "sql", namespace="team-b")] == ["10.0.1.1:8000"]


def many(count: int) -> Fleet:
    fleet = Fleet()
    fleet.pod("vllm-0")
    for namespace in ("a", "b", "c"):
        fleet.pod("vllm-0", namespace=namespace)
        held = {f"x{number:03}": f"x{number:03}" for number in range(count)}
        fleet.adapter("many", {"vllm-0": held}, namespace=namespace)
    fleet.refresh()
    return fleet


def test_pages_put_together_are_the_whole_list_once() -> None:
    table = many(10).table
    for namespace in (None, "b"):
        for limit in (1, 3, 10, 1000):
            found, token = [], ""
            while True:
                page = page_of(table, None, namespace, loaded_only=True, limit=limit, token=token)
                assert 0 < len(page.entries) <= limit
                found += page.entries
                token = page.token
                if not token:
                    break
            assert tuple(found) == list_available_adapters(table, namespace=namespace)


def test_the_next_page_begins_where_the_last_ended_though_that_entry_is_gone() -> None:
    fleet = many(3)
    page = page_of(fleet.table, None, None, loaded_only=True, limit=3, token="")
    fleet.drop_adapter("many", "a")
    fleet.refresh()
    rest = page_of(fleet.table, None, None, loaded_only=True, limit=100, token=page.token)
    assert [entry.key for entry in rest.entries] == [(ns, f"x00{n}") for ns in ("b", "c") for n in range(3)]


@pytest.mark.parametrize("token", ["x", "AAAA", "bnVsbA==", "WzEsMl0=", "é", "WyJhIiwiYiIsImMiXQ=="])
def test_a_token_that_was_not_made_here_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        page_of(a_fleet().table, None, NAMESPACE, loaded_only=True, limit=3, token=token)
