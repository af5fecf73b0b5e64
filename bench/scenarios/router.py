"""The router API: what a pick costs, how many a core answers, and how soon a client knows what an engine has done."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.figures import Figure, percentile
from bench.router.clients import Watcher, load, pick_request, pods_request
from bench.router.engines import engines, page
from bench.router.keywords import selections
from bench.scenarios.ready import LOAD
from e2e.controlplane import ControlPlane
from e2e.controlplane.processes import free_ports
from e2e.world import World
from e2e.world.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE, eventually

ADAPTERS, PODS, COPIES = 10_000, 1_000, 2
REQUESTS, CONNECTIONS, CHANGES = 10_000, 8, 100
WITHDRAW_SECONDS = 0.2
LOOK_SECONDS = 8.0


def router(directory: Path, runs: int) -> list[Figure]:
    """a router API over 10,000 adapters on 1,000 pods: picks in process and over HTTP, memory, change to client"""
    command = [sys.executable, "-m", "bench.router.child", str(ADAPTERS), str(PODS), str(COPIES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        told = json.loads(child.stdout.readline())
        chance = random.Random(3)
        names = [f"adapter-{chance.randrange(ADAPTERS):05}" for _ in range(REQUESTS)]
        picks = asyncio.run(load(child.pid, told["port"], [pick_request(name) for name in names], CONNECTIONS))
        one_by_one = asyncio.run(load(child.pid, told["port"], [pick_request(n) for n in names[:2000]], 1))
        lookups = asyncio.run(load(child.pid, told["port"], [pods_request(name) for name in names], CONNECTIONS))
        changes = _changes(child.stdin, told["port"])
        child.stdin.close()
    size = f"{ADAPTERS} adapters x {PODS} pods"
    made = f"{told['objects_mb']:.0f} MB are the objects, {told['table_mb']:.0f} MB table and index, the rest Python"
    return [
        Figure("pick in process, p50", (told["pick_p50_us"],), "us", "<= 50", "", told["pick_p50_us"] <= 50),
        Figure("pick in process, p99", (told["pick_p99_us"],), "us", "", note="of single calls, disturbed by others"),
        Figure("picks over HTTP per core", (picks.per_core,), "/s", ">= 5000", "", picks.per_core >= 5000,
               f"{CONNECTIONS} connections, per second of the server's CPU time"),
        Figure("pods of an adapter over HTTP per core", (lookups.per_core,), "/s", ">= 5000", "",
               lookups.per_core >= 5000),
        Figure("pick over HTTP, one connection", tuple(one_by_one.seconds), "s", ""),
        Figure(f"pick over HTTP, {CONNECTIONS} connections that never pause", tuple(picks.seconds), "s", ""),
        Figure("pod changes -> stream's client knows", changes, "s", "p99 <= 0.1", "", percentile(changes, 99) <= 0.1),
        Figure(f"memory of a router, {size}", (told["all_mb"],), "MB", "", note=made),
        Figure(f"first table, {size}", (told["derive_seconds"],), "s", ""),
        *_loads(),
        *selections(),
    ]  # fmt: skip


def _loads() -> list[Figure]:
    """What it costs to know how busy the engines are, and how old that knowledge is."""
    with engines() as port:
        command = [sys.executable, "-m", "bench.router.looks", str(port), str(PODS), str(LOOK_SECONDS)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    each = f"{len(page()) / 1000:.0f} kB a page; reading it takes {1e6 * told['parse_seconds']:.0f} us of that"
    every = f"each asked every {told['period_seconds']:g} s"
    return [
        Figure("a look at an engine's load", (1e6 * told["cpu_seconds"] / told["looks"],), "us", "", note=each),
        Figure(f"loads of {PODS} pods", (100 * told["cpu_seconds"] / told["wall_seconds"],), "% of a core", "",
               note=every),
        Figure(f"oldest load of {PODS} pods", (told["oldest_seconds"],), "s", "<= 10", "",
               told["oldest_seconds"] <= 10, "older ones do not count"),
        Figure(f"loads of {PODS} pods into the index", (1e6 * told["observe_seconds"],), "us", "", note="each"),
    ]  # fmt: skip


def _changes(child: IO[bytes], port: int) -> tuple[float, ...]:
    """From the word to the process that a pod changed until a client has the last of its adapters."""
    values = []
    with Watcher(f"http://127.0.0.1:{port}") as watcher:
        names = [name for name in watcher.copy.adapters if any(p["pod"] == "vllm-0" for p in watcher.copy.pods(*name))]
        for number in range(CHANGES):
            there = bool(number % 2)
            started = time.time()
            child.write(b"change\n")
            child.flush()
            watcher.until(lambda copy, there=there: all(  # type: ignore[misc]
                any(pod["pod"] == "vllm-0" for pod in copy.pods(*name)) == there for name in names))  # fmt: skip
            values.append(watcher.copy.learnt[-1].at - started)
    return tuple(values)


def staleness(plane: ControlPlane, directory: Path, namespace: str, runs: int, _: int) -> list[Figure]:
    """engine loads -> client of the change stream knows, in the operator and in a router of its own; and unloads"""
    with World(plane, directory, namespace) as world:
        world.start_pods(3, *LOAD, max_cpu_loras=64)
        port = free_ports(1)[0]
        world.start_operator("--router-port", str(port), "--withdraw-seconds", str(WITHDRAW_SECONDS))
        with _a_router(world) as other:
            urls = {"the operator itself": f"http://127.0.0.1:{port}", "a router of its own": other}
            for url in urls.values():
                _until_ready(url)
            loads: dict[str, list[float]] = {name: [] for name in urls}
            leads: dict[str, list[float]] = {name: [] for name in urls}
            with Watcher(urls["the operator itself"]) as first, Watcher(urls["a router of its own"]) as second:
                for run in range(runs + 1):
                    name = f"run-{run}"
                    _once(world, name, run, (first, second))
                    if not run:
                        continue  # the first one warms up connections on all sides
                    for watcher, key in ((first, 0), (second, 1)):
                        kind = [*urls][key]
                        loads[kind] += _lags(world, name, watcher, "load")
                        leads[kind] += _lags(world, name, watcher, "unload")
    return [
        *(
            Figure(f"engine has loaded -> client of {kind} knows", tuple(values), "s", "p99 <= 0.1", "",
                   percentile(values, 99) <= 0.1, "each of three copies on three pods")
            for kind, values in loads.items()
        ),
        *(
            Figure(f"client of {kind} has let go -> engine unloads", tuple(-value for value in values), "s", "> 0", "",
                   max(values) < 0, f"--withdraw-seconds {WITHDRAW_SECONDS:g}")
            for kind, values in leads.items()
        ),
    ]  # fmt: skip


def _once(world: World, name: str, seed: int, watchers: tuple[Watcher, ...]) -> None:
    """Three copies come, and two of them go."""
    world.adapter(name, seed=seed)
    for copies in (3, 1):
        world.apply(name, name, deployment={"replicas": copies})
        for watcher in watchers:
            watcher.until(lambda copy, copies=copies: len(copy.pods(world.namespace, name)) == copies)  # type: ignore[misc]
    eventually(lambda: sum(name in engine.models() for engine in world.engines().values()) == 1)


def _lags(world: World, name: str, watcher: Watcher, kind: str) -> list[float]:
    """Seconds from each engine's load (unload) until the client knew; negative if it knew before."""
    values = []
    for pod, engine in world.engines().items():
        for event in engine.events():
            if event["event"] == kind and event.get("name") == name:
                there = kind == "load"
                knew = [one.at for one in watcher.copy.learnt if one.adapter == name and (pod in one.pods) == there]
                # an adapter that comes is at first known without pods
                values.append((min(knew) if there else max(knew)) - event["at"])
    return values


@contextmanager
def _a_router(world: World) -> Iterator[str]:
    port = free_ports(1)[0]
    kubeconfig = world.plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)
    command = [
        sys.executable, "-m", "lora_operator.cli.main", "router", "--kubeconfig", str(kubeconfig), "--host",
        "127.0.0.1", "--port", str(port), "--namespace", world.namespace,
    ]  # fmt: skip
    with (world.directory / "router.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def _until_ready(url: str) -> None:
    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return bool(found["ready"])
        except OSError:
            return False

    eventually(ready, 30, [f"{url} is ready"])
