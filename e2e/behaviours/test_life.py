"""From kubectl apply to Ready, and away again."""

from __future__ import annotations

from e2e.world import World
from e2e.world.world import assigned


def test_an_applied_adapter_becomes_ready_and_answers_at_the_pods_that_status_names(fleet: World) -> None:
    fleet.adapter("sql")
    fleet.apply("sql", "sql", deployment={"replicas": 2})
    said = fleet.kubectl("wait", "--for=condition=Ready", "la/sql", "--timeout=20s")
    assert "condition met" in said
    status = fleet.get("sql")["status"]
    assert status["phase"] == "Ready"
    assert status["loadedAdapters"] == ["sql"]
    pods = assigned(status)
    assert len(pods) == 2
    for pod, engine in fleet.engines().items():
        answer = engine.complete("sql")
        assert (answer.status, answer.adapter) == ((200, "sql") if pod in pods else (404, "")), pod
