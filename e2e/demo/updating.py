"""New weights at the source are rolled out while requests go on."""

from __future__ import annotations

from e2e.demo.errors import NotAsExpected
from e2e.demo.fleet import Fleet
from e2e.demo.placing import check_answer
from e2e.demo.stage import Stage
from e2e.demo.table import short
from e2e.demo.traffic import Traffic, computed_by
from e2e.world.engines import EngineProbe
from e2e.world.world import BASE_MODEL

BEFORE_AND_AFTER = 20


def update(stage: Stage) -> str:
    """Exchange the files of sql under a stream of requests."""
    screen, watching = stage.screen, stage.watching
    sql = watching.look().resource("sql")
    assert sql is not None
    old = sql.versions["sql"]
    before = computed_by(EngineProbe(next(iter(sql.addresses.values()))).complete("sql"))
    screen.say(
        "New weights for sql are written to the source, while requests go to the pods that status names. The operator "
        "sees another fingerprint and rolls it out pod by pod: the old replicas serve until a new one does."
    )
    screen.command(f"# a training job writes new files into {stage.samples.place_of('sql')}")

    def everywhere(fleet: Fleet) -> bool:
        resource = fleet.resource("sql")
        loaded = [pod.loaded["sql"] for pod in fleet.pods if pod.loaded and "sql" in pod.loaded]
        return resource is not None and resource.versions["sql"] != old and fleet.ready("sql") and old not in loaded

    with Traffic(stage.new_rest(), "sql") as traffic:
        watching.until("requests are answered", lambda _: traffic.total >= BEFORE_AND_AFTER, quiet=True)
        fleet, (seen, done) = watching.until(
            "every replica of sql is the new version",
            lambda fleet: any("sql" in (p.loaded or {}) and (p.loaded or {})["sql"] != old for p in fleet.pods),
            everywhere,
            act=lambda: stage.samples.adapter("sql", seed=2),
        )
        so_far = traffic.total
        watching.until(
            "requests are answered after it", lambda _: traffic.total >= so_far + BEFORE_AND_AFTER, quiet=True
        )
    now = fleet.resource("sql")
    assert now is not None
    probe = EngineProbe(next(iter(now.addresses.values())))
    answer = probe.complete("sql")
    check_answer(stage, answer, "sql", probe.complete(BASE_MODEL))
    _judge(traffic, {before: "old", computed_by(answer): "new"})
    counts = f"{traffic.answers[before]} by the old weights, {traffic.answers[computed_by(answer)]} by the new"
    screen.say(f"{traffic.total} requests were sent meanwhile: all were answered, {counts}, and none by a mixture.")
    versions = f"{short(old)} → {short(now.versions['sql'])}"
    return f"rolled out {versions} in {done - seen:.2f} s, {traffic.total} requests meanwhile, none failed"


def _judge(traffic: Traffic, versions: dict[str, str]) -> None:
    if len(versions) != 2:
        raise NotAsExpected("the new version answers as the old one did")
    if traffic.failures:
        shown_ones = "\n".join(traffic.failures[:3])
        raise NotAsExpected(f"{len(traffic.failures)} of {traffic.total} requests failed:\n{shown_ones}")
    if traffic.stale:
        raise NotAsExpected(f"{traffic.stale} answers were computed from the other version's cached prefix")
    others = {text: number for text, number in traffic.answers.items() if text not in versions}
    if others:
        raise NotAsExpected(f"answers came from neither version: {others}")
