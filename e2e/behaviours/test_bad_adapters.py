"""Bad adapters: each gets a typed reason, and none stands in the way of a good one."""

from __future__ import annotations

from e2e.behaviours.spoiled import SPOILED, WEIGHTS, cut_short
from e2e.world import World
from e2e.world.world import BASE_MODEL, assigned, condition, failed


def test_bad_adapters_get_their_reasons_and_the_good_one_beside_them_answers(fleet: World) -> None:
    fleet.adapter("good", inside="mixed")
    for name, (spoil, _) in SPOILED.items():
        spoil(fleet.adapter(name, inside="mixed"))
    fleet.adapter(BASE_MODEL, inside="mixed")
    (fleet.source / "mixed" / "link").symlink_to(fleet.adapter("elsewhere"))
    fleet.apply("mixed", "mixed")
    expected = {name: reason for name, (_, reason) in SPOILED.items()} | {
        BASE_MODEL: "InvalidName",
        "link": "LinkEscapes",
    }
    body = fleet.wait("mixed", lambda status: bool(status.get("loadedAdapters")) and bool(failed(status)))
    status = body["status"]
    assert failed(status) == expected
    assert (status["phase"], status["loadedAdapters"]) == ("Partial", ["good"])
    assert status["summary"] == f"1/{len(expected) + 1}"
    assert all(entry["reason"] and entry["message"] for entry in status["failedAdapters"])
    (pod,) = assigned(status)
    assert fleet.engine(pod).complete("good").adapter == "good"
    listed = {name for engine in fleet.engines().values() for name in engine.models()}
    assert listed == {"good"}


def test_only_bad_adapters_make_it_failed(fleet: World) -> None:
    cut_short(fleet.adapter("broken"))
    fleet.apply("broken", "broken")
    body = fleet.wait("broken", lambda status: status.get("phase") == "Failed")
    assert failed(body["status"]) == {"broken": "FileTruncated"}
    (ready,) = (c for c in body["status"]["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "AllRejected")


def test_a_half_written_folder_heals_when_it_is_complete(fleet: World) -> None:
    folder = fleet.adapter("slow")
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    fleet.apply("slow", "slow")
    fleet.wait("slow", lambda status: failed(status) == {"slow": "FileTruncated"})
    (folder / WEIGHTS).write_bytes(weights)
    status = fleet.wait_ready("slow")["status"]
    assert not failed(status)


def test_a_bad_new_version_leaves_the_good_old_one_in_service(fleet: World) -> None:
    folder = fleet.adapter("sql")
    fleet.apply("sql", "sql")
    before = fleet.wait_ready("sql")["status"]
    cut_short(folder)
    body = fleet.wait("sql", lambda status: _reason(status, "SourceReady") == "KeptPreviousVersion")
    assert condition(body["status"], "Ready") == "True"
    assert body["status"]["adapters"] == before["adapters"]
    (pod,) = assigned(body["status"])
    assert fleet.engine(pod).complete("sql").status == 200


def _reason(status: dict[str, object], kind: str) -> str:
    conditions = status.get("conditions")
    assert isinstance(conditions, list)
    return next((str(c["reason"]) for c in conditions if c["type"] == kind), "")
