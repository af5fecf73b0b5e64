"""Paths, names, volumes and pods that make no sense: each gets a clear reason, and nothing else suffers."""

from __future__ import annotations

import json
import shutil

import pytest

from e2e.behaviours.seen import listed, log_of
from e2e.behaviours.worlds import Worlds
from e2e.pods.manifests import vllm_statefulset
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import BASE_MODEL, assigned, condition, eventually, failed

GROUP = "production-stack.vllm-project"


def reason_of(status: Json, kind: str) -> str:
    """The reason of one condition."""
    return next((str(c["reason"]) for c in status.get("conditions") or () if c["type"] == kind), "")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("a file", "NotAFolder"),
        ("a dangling link", "NotAFolder"),
        ("nothing", "FolderNotFound"),
        ("empty", "NoAdapters"),
    ],
)
def test_a_source_that_is_no_folder_of_adapters_is_said_to_be_so_and_heals(
    fleet: World, kind: str, reason: str
) -> None:
    place = fleet.source / "place"
    if kind == "a file":
        place.write_text("not a folder")
    elif kind == "a dangling link":
        place.symlink_to(fleet.source / "gone")
    elif kind == "empty":
        place.mkdir()
    fleet.apply("place", "place")
    body = fleet.wait("place", lambda status: reason_of(status, "Ready") == reason)
    assert condition(body["status"], "Ready") == "False"
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
    fleet.adapter("place")
    fleet.wait_ready("place")


@pytest.mark.parametrize("path", ["relative/path", "/srv/../etc", "", "/srv/a\nb"])
def test_the_api_server_refuses_paths_that_are_not_absolute(fleet: World, path: str) -> None:
    manifest = fleet.manifest("bad", "bad", source={"repository": path})
    said = fleet.kubectl("apply", "-f", "-", input=json.dumps(manifest), check=False)
    assert "is invalid" in said and "repository" in said, said
    assert not fleet.get("bad")


def test_hostile_names_are_refused_one_by_one(fleet: World) -> None:
    hostile = [
        "a,b",
        "a..b",
        "x" * 200,
        BASE_MODEL,
        "two words",
        "-dash",
        "näme",
        "a--0123456789abcdef",
        "a\nb",
    ]
    fleet.adapter("good", inside="names")
    for name in hostile:
        fleet.adapter(name, inside="names")
    fleet.apply("names", "names")
    body = fleet.wait("names", lambda status: status.get("loadedAdapters") == ["good"] and bool(failed(status)))
    status = body["status"]
    assert set(failed(status).values()) == {"InvalidName"}
    assert len(status["failedAdapters"]) == len(hostile)
    assert status["phase"] == "Partial"
    assert {name for names in listed(fleet).values() for name in names} == {"good"}


def test_a_link_out_of_the_source_is_not_followed(fleet: World) -> None:
    outside = fleet.adapter("outside")
    inside = fleet.adapter("inside", inside="links")
    (fleet.source / "links" / "escapes").symlink_to(outside)
    secret = fleet.adapter("leaks", inside="links") / "adapter_config.json"
    secret.unlink()
    secret.symlink_to("/etc/passwd")
    assert inside.is_dir()
    fleet.apply("links", "links")
    status = fleet.wait("links", lambda status: status.get("loadedAdapters") == ["inside"])["status"]
    assert failed(status)["escapes"] == "LinkEscapes"
    assert set(failed(status)) == {"escapes", "leaks"}
    assert "root:" not in json.dumps(status)


def test_pods_with_nonsense_in_their_annotations_are_named_and_others_go_on(worlds: Worlds) -> None:
    world = worlds(1)
    nonsense = {
        "lora-memory": "plenty",
        "max-cpu-loras": "-3",
        "max-lora-rank": "sixteen",
        "port": "99999",
        "adapter-root": "../here",
    }
    for key, value in nonsense.items():
        world.start_pods(1, name=key, annotations={key: value}, wait=False)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 6})
    status = world.wait(
        "sql",
        lambda status: (
            failed(status) == {"sql": "InvalidPodLimits"}
            and len(status["failedAdapters"][0]["pods"]) == len(nonsense)
            and sorted(assigned(status)) == ["vllm-0"]
        ),
    )["status"]
    said = {item["pod"]: item for item in status["failedAdapters"][0]["pods"]}
    for key, value in nonsense.items():
        refusal = said[f"{key}-0"]
        assert refusal["reason"] == "InvalidPodLimits"
        assert f"{GROUP}/{key} is '{value}'" in refusal["message"]

    world.kubectl("annotate", "pod", "lora-memory-0", f"{GROUP}/lora-memory=1Gi", "--overwrite")
    world.wait("sql", lambda status: "lora-memory-0" in assigned(status))


def test_a_pod_that_declares_no_limits_is_taken_to_have_those_of_vllm(worlds: Worlds) -> None:
    world = worlds(0)
    bare = vllm_statefulset("bare", 1, BASE_MODEL, namespace=world.namespace, adapter_root=world.volume)
    world.kubectl("apply", "-f", "-", input=json.dumps(bare))
    world.adapter("fits")
    world.apply("fits", "fits")
    assert assigned(world.wait_ready("fits")["status"]) == {"bare-0": ["fits"]}
    world.adapter("second", seed=1)
    world.adapter("wide", seed=2, rank=32)
    world.apply("second", "second")
    world.apply("wide", "wide")
    status = world.wait("second", lambda status: failed(status) == {"second": "NoFreeSlot"})["status"]
    assert "1 of 1 slots are taken" in status["failedAdapters"][0]["message"]
    status = world.wait("wide", lambda status: failed(status) == {"wide": "RankTooHigh"})["status"]
    assert "rank 32 exceeds max_lora_rank 16 on 1 of 1 pods" in status["failedAdapters"][0]["message"]
    assert listed(world) == {"bare-0": ["fits"]}


def test_a_pod_that_is_annotated_with_nonsense_later_keeps_what_it_has(worlds: Worlds) -> None:
    world = worlds(1)
    world.adapter("sql")
    world.adapter("new", seed=1)
    world.apply("sql", "sql")
    world.wait_ready("sql")
    world.kubectl("annotate", "pod", "vllm-0", f"{GROUP}/max-loras=many", "--overwrite")
    world.apply("new", "new")
    world.wait("new", lambda status: failed(status) == {"new": "InvalidPodLimits"})
    assert listed(world) == {"vllm-0": ["sql"]}
    assert assigned(world.get("sql")["status"]) == {"vllm-0": ["sql"]}
    assert world.engine("vllm-0").complete("sql").status == 200


def test_a_missing_adapter_volume_is_said_to_be_missing_and_heals(worlds: Worlds) -> None:
    world = worlds(1, operator=None)
    shutil.rmtree(world.volume)
    world.adapter("sql")
    world.apply("sql", "sql")
    world.start_operator("--retry-seconds", "0.2")
    status = world.wait("sql", lambda status: failed(status) == {"sql": "LoadFailed"})["status"]
    assert "VolumeMissing" in status["failedAdapters"][0]["message"]
    assert "Traceback" not in log_of(world)
    world.volume.mkdir()
    world.wait_ready("sql")


def test_something_else_in_an_adapters_place_on_the_volume_is_named(worlds: Worlds) -> None:
    world = worlds(1)
    (world.volume / "sql").write_text("in the way")
    world.adapter("sql")
    world.adapter("other", seed=1)
    world.apply("sql", "sql")
    world.apply("other", "other")
    world.wait_ready("other")
    status = world.wait("sql", lambda status: failed(status) == {"sql": "LoadFailed"})["status"]
    message = status["failedAdapters"][0]["message"]
    assert "PathOccupied" in message and "remove it" in message
    assert (world.volume / "sql").read_text() == "in the way"
    eventually(lambda: bool(world.events("sql")), what=("an Event",))
