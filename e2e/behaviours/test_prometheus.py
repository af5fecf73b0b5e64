"""A real Prometheus over operator, router and agent answers every question of the dashboard; traces tell the same."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.behaviours.dashboard import dashboard_queries
from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.prometheus import MISSING, Prometheus, is_installed
from e2e.behaviours.worlds import Worlds
from e2e.controlplane.processes import free_ports
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.collector import Collector
from e2e.world.world import eventually, failed
from lora_operator.tools.metrics_page import labels, programs

pytestmark = pytest.mark.skipif(not is_installed(), reason=MISSING)

# of the dashboard's queries, those about what does not happen here
HAPPENS_NOT = {
    "Failed fetches", "Endpoint picker, requests per second by result", "Endpoint picker, time to answer",
    "Uploads per second by result", "Bytes uploaded per second", "Users by the share of their quota",
    "Time of an upload", "Time from upload to ready", "Requests per second by status",  # no user library is here
}  # fmt: skip
# what some panels have to show after `live`, by their titles
RIGHT: dict[str, Callable[[dict[str, float]], bool]] = {
    "Hit rate": lambda found: all(0 < share < 1 for share in found.values()),
    "Failed loads": lambda found: found.get('{"result": "LoadRefused"}', 0) > 0,
    "Evictions, by cause": lambda found: found.get('{"cause": "Requested"}', 0) > 0,
    "Time to load": lambda found: max(found.values(), default=0) > 0,
    "Picks answered by a pod that holds the adapter": lambda found: all(0 < share < 1 for share in found.values()),
    "Most loaded pod over the mean": lambda found: min(found.values(), default=0) >= 1,
}
QUICK = ("--retry-seconds", "0.2", "--retry-max-seconds", "1")
PATHS = {
    "reconcile / plan",
    "reconcile / load adapter / load",
    "reconcile / load adapter / fetch / agent fetch / download",
    "reconcile / unload adapter",
}
OF_SCRAPES = {"__name__", "instance", "job", "le"}


def pick(url: str, adapter: str) -> int:
    """The status of the answer."""
    request = urllib.request.Request(f"{url}/v1/pick", json.dumps({"adapter": adapter}).encode())
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def evict(world: World, agent: str, name: str) -> None:
    """What an administrator does by the agent's API."""
    (version,) = [folder.name for folder in (world.disk / name).iterdir()]
    headers = {"Authorization": f"Bearer {world.token_file.read_text()}"}
    request = urllib.request.Request(f"http://{agent}/v1/adapters/{name}/{version}", headers=headers, method="DELETE")
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 204


def live(world: World, prometheus: Prometheus, store: WebUpload, router: str, agent: str) -> None:
    """Loads, some that fail, a refusal for want of room, an eviction, hits of the cache after a restart, picks."""
    apply(world, "kept", offer(world, store, "kept", seed=0))
    world.wait_ready("kept")
    world.engine("vllm-0").fault(kind="status", endpoint="load")
    apply(world, "first", offer(world, store, "first", seed=1))
    failures = 'sum(increase(lora_operator_loads_total{result="LoadRefused"}[10m]))'
    eventually(lambda: any(count > 0 for count in prometheus.query(failures).values()), what=["loads fail twice"])
    world.engine("vllm-0").heal()
    world.wait_ready("first")
    apply(world, "second", offer(world, store, "second", seed=2))
    world.wait("second", lambda status: bool(failed(status)))
    apply(world, "wide", offer(world, store, "wide", seed=3, rank=32))
    world.wait("wide", lambda status: "wide" in failed(status))
    assert pick(router, "kept") == 200 and pick(router, "wide") == 503
    world.kubectl("delete", "la", "first")
    eventually(lambda: "first" not in world.engine("vllm-0").models(), what=["first is unloaded"])
    evict_when_told(world, agent, "first")
    world.wait_ready("second")
    world.pods.kill_container(world.namespace, "vllm-0")
    world.pods.wait_restarted(world.namespace, "vllm-0")
    eventually(lambda: {*world.engine("vllm-0").models()} == {"kept", "second"}, what=["both are loaded again"])
    world.wait_ready("kept")


def evict_when_told(world: World, agent: str, name: str) -> None:
    """The agent hears a moment later that its engine has let go of it."""

    def done() -> bool:
        try:
            evict(world, agent, name)
        except urllib.error.HTTPError as error:
            assert error.code == 409
            return False
        return True

    eventually(done, what=[name, "is evicted"])


def test_prometheus_answers_the_dashboard_and_every_series_is_on_the_page(worlds: Worlds, tmp_path: Path) -> None:
    port, store = free_ports(1)[0], WebUpload()
    with Collector() as collector:
        world = worlds(0, operator=("--router-port", str(port), "--otlp-endpoint", collector.url, *QUICK))
        size = sum(file.stat().st_size for file in world.adapter("measured").iterdir())
        world.start_pods(1, agent=("--cache-bytes", str(size * 5 // 2), "--otlp-endpoint", collector.url))
        agent = f"{world.pods.address_of(world.namespace, 'vllm-0')}:8090"
        assert world.operator is not None
        targets = {
            "operator": [f"127.0.0.1:{world.operator.metrics_port}"],
            "router": [f"127.0.0.1:{port}"],
            "agent": [agent],
        }
        try:
            with Prometheus(tmp_path / "prometheus", targets) as prometheus:
                live(world, prometheus, store, f"http://127.0.0.1:{port}", agent)
                check_dashboard(prometheus)
                check_series(prometheus)
        finally:
            store.close()
        world.stop_operator()
        world.kubectl("delete", "statefulset", "vllm", "--wait=false")
        eventually(lambda: collector.paths() >= PATHS, what=["traces of operator and agent"])


def check_dashboard(prometheus: Prometheus) -> None:
    """Every query has an answer, and those about what was done here the right one."""
    left = dashboard_queries("10m")  # the machine may be slow
    shown: list[str] = []

    def answered() -> bool:
        # the last scrape may be older than what was done last; what is right once need not be asked again
        shown.clear()
        for title, text in list(left.items()):
            found, name = prometheus.query(text), title.partition(" (")[0]
            if name in HAPPENS_NOT or (found and RIGHT.get(name, bool)(found)):
                del left[title]
            else:
                shown.append(f"{title}: {found}")
        return not left

    eventually(answered, what=shown)
    groups = prometheus.get("rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}


def check_series(prometheus: Prometheus) -> None:
    """Nothing is told that docs/metrics.md does not know, by name, label and value."""
    known, told = {row.name for rows in programs().values() for row in rows}, labels()
    strange = []
    for series in prometheus.series('{__name__=~"lora_operator_.+"}'):
        name = series["__name__"].removesuffix("_created").removesuffix("_total")
        for ending in ("_bucket", "_sum", "_count"):
            name = name if name in known else name.removesuffix(ending)
        name = name if name in known else f"{name}_total"
        rest = {label: value for label, value in series.items() if label not in OF_SCRAPES}
        allowed = all(told[name.removeprefix("lora_operator_"), label].allow(value) for label, value in rest.items())
        strange += [] if name in known and allowed else [series]
    assert strange == []
