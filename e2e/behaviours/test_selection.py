"""One LoraAdapter stands for many adapters of its source: which ones, and what becomes of each."""

from __future__ import annotations

from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import condition, failed

FOUND = ("lora-alpaca-7b", "lora-vicuna-7b", "base-alpaca")


def test_without_selection_every_folder_is_an_adapter(fleet: World) -> None:
    status = _applied(fleet, {})
    assert status["loadedAdapters"] == sorted(FOUND)
    assert status["summary"] == "3/3"


def test_a_pattern_selects_by_glob(fleet: World) -> None:
    assert _applied(fleet, {"pattern": "*alpaca*"})["loadedAdapters"] == ["base-alpaca", "lora-alpaca-7b"]


def test_a_prefix_selects_by_the_beginning(fleet: World) -> None:
    assert _applied(fleet, {"prefix": "lora-"})["loadedAdapters"] == ["lora-alpaca-7b", "lora-vicuna-7b"]


def test_all_that_are_given_have_to_agree(fleet: World) -> None:
    status = _applied(fleet, {"prefix": "lora-", "pattern": "*alpaca*"})
    assert status["loadedAdapters"] == ["lora-alpaca-7b"]


def test_a_listed_name_that_the_source_lacks_is_reported_beside_the_good_ones(fleet: World) -> None:
    status = _applied(fleet, {"adapters": ["lora-alpaca-7b", "lora-alpaca-70b"]}, phase="Partial")
    assert status["loadedAdapters"] == ["lora-alpaca-7b"]
    assert failed(status) == {"lora-alpaca-70b": "NotFound"}
    (entry,) = status["failedAdapters"]
    assert "no adapter called 'lora-alpaca-70b'" in entry["message"]
    assert condition(status, "Ready") == "False"
    # and it heals by itself when the name appears
    fleet.adapter("lora-alpaca-70b", inside="many")
    healed = fleet.wait_ready("many")["status"]
    assert healed["loadedAdapters"] == ["lora-alpaca-70b", "lora-alpaca-7b"]
    assert not failed(healed)


def test_a_selection_that_nothing_passes_says_so(fleet: World) -> None:
    status = _applied(fleet, {"prefix": "none-"}, phase="Pending")
    (ready,) = (c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NoAdapters")
    assert ready["message"].startswith("no adapter there is selected by prefix 'none-': an adapter is a folder with")


def test_more_than_max_adapters_is_refused_as_a_whole(fleet: World) -> None:
    status = _applied(fleet, {"maxAdapters": 2}, phase="Failed")
    (source,) = (c for c in status["conditions"] if c["type"] == "SourceReady")
    assert source["reason"] == "TooManyAdapters"
    assert "3 adapters" in source["message"]


def test_a_folder_that_is_not_there_is_named_and_found_when_it_comes(fleet: World) -> None:
    fleet.apply("late", "late")
    body = fleet.wait("late", lambda status: condition(status, "SourceReady") == "False")
    (source,) = (c for c in body["status"]["conditions"] if c["type"] == "SourceReady")
    assert source["reason"] == "FolderNotFound"
    assert str(fleet.source / "late") in source["message"]
    fleet.adapter("late")
    assert fleet.wait_ready("late")["status"]["loadedAdapters"] == ["late"]


def _applied(world: World, source: dict[str, object], phase: str = "Ready") -> Json:
    for name in FOUND:
        world.adapter(name, inside="many")
    world.apply("many", "many", source=source)
    body = world.wait(
        "many", lambda status: status.get("phase") == phase and condition(status, "SourceReady") != "Unknown"
    )
    return dict(body["status"])
