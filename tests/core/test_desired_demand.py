"""What measured demand, and its absence, make of what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from lora_operator.desired.adapters import Demands, desired
from lora_scheduler import Adapter
from tests.core.builders import V1, a_resource, a_source, found

AUTO = {"replicaPolicy": "Auto", "replicas": 1, "maxReplicas": 4}


def wanted(demands: Demands | None, *, deployment: Any = AUTO, replicas: int = 0, seen: int = 1) -> Adapter:
    """The adapter of a resource of generation 1, whose status says that so many replicas are wanted."""
    noted = [{"name": "sql", "fingerprint": V1, "replicas": replicas}] if replicas else []
    resource = a_resource(spec={"deploymentConfig": deployment}, status={"observedGeneration": seen, "adapters": noted})
    return desired([resource], {resource.key: a_source(resource, found("sql"))}, demands).adapters["ns/la/sql"].adapter


def test_demand_is_that_of_the_name_in_the_namespace() -> None:
    demands = {("ns", "sql"): 3.05, ("other", "sql"): 7.0}
    assert wanted(demands).demand == 3.05
    assert wanted({("other", "sql"): 7.0}).demand is None
    assert wanted(None).demand is None


@pytest.mark.parametrize(
    ("demands", "expected"),
    [({}, 3), ({("ns", "sql"): 0.0}, 1), (None, 1)],
    ids=["not known yet", "known", "not measured"],
)
def test_replicas_that_demand_had_called_for_stay_until_it_is_known_again(
    demands: Demands | None, expected: int
) -> None:
    assert wanted(demands, replicas=3).replicas == expected


def test_never_more_replicas_than_are_allowed_nor_fewer_than_asked_for() -> None:
    assert wanted({}, replicas=3, deployment=AUTO | {"maxReplicas": 2}).replicas == 2
    assert wanted({}, replicas=3, deployment=AUTO | {"maxReplicas": None}).replicas == 3
    assert wanted({}, replicas=1, deployment=AUTO | {"replicas": 2}).replicas == 2


def test_what_was_wanted_of_an_earlier_spec_does_not_matter() -> None:
    assert wanted({}, replicas=3, seen=0).replicas == 1


def test_only_auto_follows_demand() -> None:
    assert wanted({}, replicas=3, deployment={"replicas": 2}).replicas == 2
    assert wanted({}, replicas=3, deployment={"replicaPolicy": "AllPods"}).replicas == 1
