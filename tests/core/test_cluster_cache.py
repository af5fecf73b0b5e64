from __future__ import annotations

import json
from typing import Any

from lora_operator.informers.cache import GONE_REMEMBERED, OLD_ANSWERS_SECONDS, Cache, Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import read_pod, served_names


def pod(name: str, version: int, uid: str = "u1") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": uid, "resourceVersion": str(version)}}


def cluster() -> Cluster:
    return Cluster(PodDefaults())


def test_an_older_observation_changes_nothing() -> None:
    pods = cluster().pods
    assert pods.put(pod("a", 5))
    assert not pods.put(pod("a", 4))
    assert pods["ns/a"].version == 5


def test_an_object_that_a_full_list_lacks_is_gone() -> None:
    pods = cluster().pods
    pods.put(pod("a", 5))
    assert pods.absent("ns/a", 7)
    assert pods.get("ns/a") is None


def test_an_object_that_was_seen_after_the_list_was_made_stays() -> None:
    pods = cluster().pods
    pods.put(pod("a", 9))
    assert not pods.absent("ns/a", 7)
    assert pods.get("ns/a") is not None


def test_a_late_deletion_does_not_remove_the_successor() -> None:
    pods = cluster().pods
    pods.put(pod("a", 9, uid="new"))
    assert not pods.drop(pod("a", 8, uid="old"))
    assert pods.get("ns/a") is not None


def test_what_was_served_counts_for_that_container_alone() -> None:
    note = json.dumps({"container": "c1", "names": {"sql": "aaaa"}})
    assert served_names(note, "c1") == {"sql": "aaaa"}
    assert served_names(note, "c2") == {}
    assert served_names("{nonsense", "c1") == {} and served_names(None, "c1") == {}
    assert served_names('{"container": "c1", "names": 3}', "c1") == {}


def test_an_answer_that_comes_after_the_deletion_does_not_bring_an_object_back() -> None:
    pods = cluster().pods
    pods.put(pod("a", 5))
    assert pods.drop(pod("a", 8))
    assert not pods.put(pod("a", 7))  # of a write that was answered late
    assert not pods.see(pod("a", 7))  # of a list that was made before
    assert pods.get("ns/a") is None
    assert pods.put(pod("a", 9, uid="u2"))


def test_a_late_answer_about_the_predecessor_does_not_replace_the_successor() -> None:
    pods = cluster().pods
    pods.put(pod("a", 9, uid="new"))
    assert not pods.put(pod("a", 8, uid="old"))
    assert pods["ns/a"].uid == "new"


def test_a_deletion_that_was_never_seen_alive_still_counts() -> None:
    pods = cluster().pods
    assert not pods.drop(pod("a", 8))
    assert not pods.put(pod("a", 7))
    assert pods.get("ns/a") is None


def test_deletions_are_not_remembered_without_end() -> None:
    pods = cluster().pods
    for number in range(GONE_REMEMBERED + 100):
        pods.drop(pod("a", 1, uid=str(number)))
    assert len(pods._gone) == GONE_REMEMBERED


def test_what_a_list_showed_to_be_gone_does_not_come_back_either() -> None:
    pods = cluster().pods
    pods.put(pod("a", 5))
    assert pods.absent("ns/a", 8)
    assert not pods.put(pod("a", 6))
    assert pods.get("ns/a") is None


def test_after_a_restored_backup_what_is_seen_counts_though_its_version_is_lower_and_it_had_been_deleted() -> None:
    pods = cluster().pods
    pods.see(pod("a", 50))
    pods.drop(pod("b", 60, uid="u2"))
    pods.rewind()
    assert pods.see(pod("a", 7)) and pods.see(pod("b", 8, uid="u2"))
    assert not pods.see(pod("a", 6))
    assert pods["ns/a"].version == 7


def test_after_a_restored_backup_late_answers_from_before_it_change_nothing_and_later_ones_count_again() -> None:
    now = 100.0
    pods = Cache(lambda body: read_pod(body, PodDefaults()), lambda: now)
    pods.see(pod("a", 50))
    pods.rewind()
    pods.see(pod("a", 7))
    assert not pods.put(pod("a", 51))
    assert pods.see(pod("a", 8))
    now += OLD_ANSWERS_SECONDS
    assert pods.put(pod("a", 9))
