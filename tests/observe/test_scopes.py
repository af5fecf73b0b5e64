"""Which lists and watches there are: enough to see who takes part, and not one for each resource."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_operator.api.well_known import POD_LABEL
from lora_operator.informers.records import read_resource
from lora_operator.informers.scopes import (
    MOST_IN_NAMESPACE,
    MOST_NAMESPACES,
    Scope,
    adapter_scopes,
    pod_scopes,
    selector_of,
)

PARTICIPANTS = f"{POD_LABEL}=enabled"


def pods(namespace: str = "", labels: str = "", name: str = "", *, engines: bool = False) -> Scope:
    return Scope("/api/v1", "pods", namespace, labels, name, engines)


def test_without_selectors_there_is_one_scope_or_one_for_each_namespace() -> None:
    assert pod_scopes((), (), ()) == {pods(labels=PARTICIPANTS)}
    assert pod_scopes(("a", "b"), (), ()) == {pods("a", PARTICIPANTS), pods("b", PARTICIPANTS)}
    assert {scope.path for scope in adapter_scopes(("a",))} == {
        "/apis/production-stack.vllm-project/v1alpha1/namespaces/a/loraadapters"
    }
    assert len(adapter_scopes(())) == 1


def test_a_selector_is_asked_for_once_in_each_namespace_that_has_it_and_for_all_where_many_have_it() -> None:
    few = [(f"n{index}", "tier=gold") for index in range(MOST_NAMESPACES)] * 2
    assert pod_scopes((), few, ()) == {pods(labels=PARTICIPANTS)} | {pods(name, "tier=gold") for name, _ in few}
    many = [*few, ("one-more", "tier=gold")]
    assert pod_scopes((), many, ()) == {pods(labels=PARTICIPANTS), pods(labels="tier=gold")}
    named = tuple(name for name, _ in many)
    assert all(scope.namespace for scope in pod_scopes(named, many, ())), "no right for the cluster is asked for"


def test_where_selectors_or_names_are_too_many_the_namespace_is_seen_whole() -> None:
    selectors = [("a", f"tier=n{index}") for index in range(MOST_IN_NAMESPACE + 1)]
    assert pod_scopes((), selectors, ()) == {pods(labels=PARTICIPANTS), pods("a")}
    assert pod_scopes((), [(f"n{index}", f"x={index}") for index in range(1000)], ()) == {pods()}


def test_a_pod_that_left_is_asked_for_by_its_name() -> None:
    (scope,) = pod_scopes((), (), ("a/vllm-0",)) - {pods(labels=PARTICIPANTS)}
    assert (scope.path, scope.query) == ("/api/v1/namespaces/a/pods", {"fieldSelector": "metadata.name=vllm-0"})
    assert scope.whole and str(scope) == "pods vllm-0 in namespace a"


def test_whoever_serves_base_models_too_sees_every_engine() -> None:
    assert pod_scopes((), (), (), all_engines=True) == {pods(labels=PARTICIPANTS), pods(engines=True)}


@pytest.mark.parametrize(
    ("selector", "labels"),
    [
        ({}, ""),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchLabels": {"a": "1", POD_LABEL: "enabled"}}, ""),  # they take part by their label
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x", "y"]}]}, "a notin (x,y)"),
        *(({"matchLabels": {key: "x"}}, f"{key}=x") for key in ("A_.b", "x" * 63, f"{'p' * 253}/x", "in")),
        # no pod can have such labels, and no API server reads this
        *(
            ({"matchLabels": {key: "x"}}, "")
            for key in ("a b", "", "a,b", "a..b/c", "A.b/c", "x" * 64, f"{'p' * 254}/x")
        ),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a..b/c", "operator": "Exists"}]}, ""),
    ],
)
def test_a_selector_is_what_the_api_server_reads(selector: dict[str, object], labels: str) -> None:
    spec = {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}}
    resource = read_resource(
        {
            "metadata": {"name": "la", "namespace": "a", "uid": "u"},
            "spec": spec | {"deploymentConfig": {"podSelector": selector}},
        }
    )
    assert resource.problem == ""
    assert selector_of(resource) == labels
    assert selector_of(replace(resource, deleted_at=1.0)) == ""
