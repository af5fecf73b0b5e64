"""The models read what the API server sends, and refuse by the same rules."""

from __future__ import annotations

import pytest
import yaml

from e2e.world.promised import PROMISED_EXAMPLE
from lora_operator.api.v1alpha1 import InvalidLoraAdapter, PodSelector, parse
from lora_scheduler.model import Requirement, Selector
from tests.crd.cases import CASES, Case, an_adapter

# The API server alone minds these: for the operator they are harmless.
ONLY_THE_SERVER_REFUSES = {"a name may not be twice in the list"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accepts_and_refuses_like_the_api_server(case: Case) -> None:
    body = an_adapter(change=case.change)
    if case.accepted or case.name in ONLY_THE_SERVER_REFUSES:
        parse(body)
        return
    with pytest.raises(InvalidLoraAdapter) as caught:
        parse(body)
    assert caught.value.field == case.field
    assert case.says in caught.value.problem


def test_names_of_cases_are_unique() -> None:
    assert len({(case.name, str(case.change)) for case in CASES}) == len(CASES)


def test_reads_the_promised_example() -> None:
    adapter = parse(yaml.safe_load(PROMISED_EXAMPLE))
    assert adapter.spec.base_model == "meta-llama/Llama-2-70b-hf"
    assert adapter.spec.scheduling_config.resource_requirements.memory_bytes == 2 * 1024**3
    assert adapter.spec.scheduling_config.priority == 10
    assert adapter.status.failed_adapters[0].reason == "Not enough memory"


def test_fills_in_the_defaults_that_the_schema_has() -> None:
    spec = parse(an_adapter()).spec
    deployment, scheduling = spec.deployment_config, spec.scheduling_config
    assert (deployment.replicas, deployment.replica_policy, deployment.load_on_startup) == (1, "Fixed", True)
    assert (scheduling.priority, scheduling.preemption_policy) == (0, "LowerPriority")
    assert scheduling.topology_key == "kubernetes.io/hostname"
    assert spec.adapter_source.max_adapters == 100


def test_ignores_fields_of_a_newer_version() -> None:
    parse(an_adapter(change={"later": 1, "adapterSource": {"newer": {"a": 1}}}))


def test_a_status_that_cannot_be_read_counts_as_none() -> None:
    assert parse({**an_adapter(), "status": {"phase": "Sleeping"}}).status.phase is None
    assert parse({**an_adapter(), "status": None}).status.phase is None


def test_names_the_object_and_the_field_in_what_it_raises() -> None:
    body = an_adapter("sql", {"adapterSource": {"adapters": ["../x"]}})
    body["metadata"].update(namespace="ml", generation=7)
    with pytest.raises(
        InvalidLoraAdapter, match=r"^LoraAdapter ml/sql: spec\.adapterSource\.adapters\[0\]: "
    ) as caught:
        parse(body)
    assert caught.value.generation == 7


@pytest.mark.parametrize("body", [{}, {"metadata": 3}, {"metadata": {"name": "a"}, "spec": []}, {"spec": None}])
def test_survives_what_is_no_object_at_all(body: dict[str, object]) -> None:
    with pytest.raises(InvalidLoraAdapter):
        parse(body)


def test_the_owner_is_the_namespace_unless_told() -> None:
    body = an_adapter(change={"owner": "team-a"})
    assert parse(body).owner == "team-a"
    body = an_adapter()
    body["metadata"]["namespace"] = "ml"
    assert parse(body).owner == "ml"


def test_a_selector_becomes_the_placement_librarys_and_kubectls() -> None:
    selector = PodSelector.model_validate(
        {
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "gpu", "operator": "Exists"},
            ],
        }
    )
    assert selector.to_string() == "a=1,b=2,tier in (gold,silver),!old,gpu"
    assert selector.for_placement() == Selector(
        match_labels=(("a", "1"), ("b", "2")),
        match_expressions=(
            Requirement("tier", "In", ("gold", "silver")),
            Requirement("old", "DoesNotExist"),
            Requirement("gpu", "Exists"),
        ),
    )
