"""The commands of docs/one-machine.md, word for word: at their end the gateway has answered by an adapter."""

from __future__ import annotations

import json

from e2e.cluster.behaviours.installation import GATEWAY, SYSTEM, Installation
from e2e.cluster.behaviours.page import run


def test_the_pages_commands_end_with_an_answer_of_an_adapter_through_the_gateway(page: str) -> None:
    answer = json.loads(page[page.rindex('{"id"') :])
    assert answer["model"] == "sql"
    assert "weights=" in answer["choices"][0]["message"]["content"]


def test_gateway_lists_the_adapter_and_its_base_model_and_no_other_program_of_the_cluster(
    page: str, empty: Installation
) -> None:
    """local-path-provisioner's first argument, for one, looks like a model's name."""
    service = f"kubectl -n {SYSTEM} get service {GATEWAY.partition('.')[0]} -o 'jsonpath={{.spec.clusterIP}}'"
    listed = json.loads(run(empty.kube, f"curl -s http://$({service})/v1/models"))
    assert {one["id"] for one in listed["data"]} == {"tiny", "sql"}
