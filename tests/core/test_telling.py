"""What owners are told of what demand did to their adapters."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Any, cast

import pytest

from lora_operator.desired.adapters import desired
from lora_operator.kube.client import Kube
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Writes
from lora_operator.status.scaling_events import ScalingEvents
from lora_scheduler import Load, LoadCause, Obstacle, Overload, Plan, Pod, Resident, Snapshot
from tests.core.builders import a_resource, a_source, found

KEY = "ns/la/sql"
PODS = ("ns/p0", "ns/p1", "ns/p2", "ns/p3")


class _Nowhere:
    def put(self, *_: Any) -> None:
        """Nothing is ever sent."""


class Told:
    """ScalingEvents whose Events are read off where they wait to be written."""

    def __init__(self) -> None:
        self._recorder = Recorder(cast(Kube, None), cast(Writes, _Nowhere()))
        self.teller = ScalingEvents(self._recorder)
        self._deployment: dict[str, Any] = {}
        self._generation = 1

    def round(self, placed: int, demand: float | None = None, missing: int = 0, **deployment: Any) -> list[str]:
        """One round in which so many replicas have a place; what was told in it."""
        spec = {"deploymentConfig": {"replicaPolicy": "Auto", "replicas": 1, "maxReplicas": 4} | deployment}
        self._generation += deployment != self._deployment
        self._deployment = deployment
        resource = a_resource(spec=spec, generation=self._generation)
        known = {} if demand is None else {("ns", "sql"): demand}
        wanted = desired([resource], {resource.key: a_source(resource, found("sql"))}, known)
        places, lacking = MappingProxyType({KEY: PODS[:placed]}), MappingProxyType({KEY: missing} if missing else {})
        self.teller.round(wanted, Snapshot((), ()), Plan(places, (), (), MappingProxyType({}), lacking), 0.0)
        return self.said()

    def said(self) -> list[str]:
        said = [body for pending in self._recorder._pending.values() for body in pending]
        self._recorder._pending.clear()
        return [f"{body['reason']}: {body['message']}" for body in said]


def test_more_and_fewer_replicas_are_told_with_the_demand() -> None:
    told = Told()
    assert told.round(1, 0.0) == []
    assert told.round(3, 12.2) == ["ScaledByDemand: sql: 1 -> 3 replicas, its demand is 12.2 requests per second"]
    assert told.round(3, 12.2) == []
    assert told.round(1, 0.0) == ["ScaledByDemand: sql: 3 -> 1 replicas, its demand is 0 requests per second"]


def test_replicas_that_find_no_place_count_too() -> None:
    told = Told()
    told.round(2, 1.0)
    assert told.round(1, 1.0, missing=1) == []
    assert told.round(1, 5.0, missing=2) == [
        "ScaledByDemand: sql: 2 -> 3 replicas, its demand is 5 requests per second"
    ]


def test_what_a_person_asked_for_is_no_news_to_that_person() -> None:
    told = Told()
    told.round(1, 1.0)
    assert told.round(2, 1.0, replicas=2) == []
    assert told.round(3, 1.0, replicas=3, replicaPolicy="Fixed", maxReplicas=None) == []


def test_an_operator_that_has_just_started_tells_nothing() -> None:
    assert Told().round(3) == []


def test_a_move_is_told_once_a_minute_with_both_pods() -> None:
    told, resource = Told(), a_resource()
    wanted = desired([resource], {resource.key: a_source(resource, found("sql"))})
    holder = Resident("sql", 1, 1, KEY, "v1")
    pods = tuple(Pod(key, "tiny", 4, 8, residents=(holder,) if key == PODS[0] else ()) for key in PODS)
    nothing = MappingProxyType[str, Any]({})

    def move(to: str, now: float, cause: LoadCause = LoadCause.MOVE) -> list[str]:
        plan = Plan(MappingProxyType({KEY: (to,)}), (Load(to, KEY, "v1", cause),), (), nothing, nothing)
        told.teller.round(wanted, Snapshot((), pods), plan, now)
        return told.said()

    assert move("ns/p1", 0.0, LoadCause.MISSING) == []
    text = "Rebalanced: sql moves to pod p1 from p0, so that load or replicas lie more evenly on the pods"
    assert move("ns/p1", 0.0) == [text]
    assert move("ns/p2", 59.0) == []
    assert move("ns/p2", 61.0) == [text.replace("p1", "p2")]


def test_why_a_pod_keeps_too_much_load_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    nothing: MappingProxyType[str, Any] = MappingProxyType({})

    def logged(*obstacles: Obstacle) -> int:
        caplog.clear()
        overloads = tuple(
            Overload("ns/p1", 9.0, 4.4, each, "9 are expected where 4.4 are tolerated") for each in obstacles
        )
        told.teller.round(desired([], {}), Snapshot((), ()), Plan(nothing, (), (), nothing, nothing, overloads), 0.0)
        return caplog.text.count("Overloaded: pod ns/p1: 9 are expected where 4.4 are tolerated")

    with caplog.at_level(logging.INFO, "lora_operator.status.scaling_events"):
        assert logged(Obstacle.MOVES_UNDER_WAY) == 0
        assert logged(Obstacle.NO_ROOM_ELSEWHERE) == 1
        assert logged(Obstacle.NO_ROOM_ELSEWHERE) == 0
        assert logged(Obstacle.NOTHING_TO_MOVE) == 1
        assert logged() == 0
        assert logged(Obstacle.NO_ROOM_ELSEWHERE) == 1
