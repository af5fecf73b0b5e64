"""Fetching over a link of limited bandwidth, next to curl and huggingface_hub over the same link."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.fetch.content import write_weights
from bench.figures import Figure

BYTES_PER_SECOND = 100e6
MEGABYTE = 1_000_000
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Load:
    """`count` files of about `size_bytes`, served as `name`."""

    name: str
    count: int
    path: Path
    sha256: str

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def urls(self, port: int) -> list[str]:
        return [f"http://127.0.0.1:{port}/{self.name}?n={number}" for number in range(self.count)]

    @property
    def ideal_seconds(self) -> float:
        return self.count * self.size_bytes / BYTES_PER_SECOND


def fetch(directory: Path, runs: int) -> list[Figure]:
    """fetch time against size ÷ bandwidth, and the memory of the fetching process"""
    directory.mkdir(parents=True, exist_ok=True)
    loads = [
        _load(directory, "one-of-500MB", 1, 500 * MEGABYTE),
        _load(directory, "50-of-20MB", 50, 20 * MEGABYTE),
        _load(directory, "one-of-100MB", 1, 100 * MEGABYTE),
    ]
    figures: list[Figure] = []
    with _link(loads, BYTES_PER_SECOND) as port:
        for load in loads[:2]:
            figures += _against_others(directory, load, port, min(runs, 3))
    with _link(loads, None) as port:
        figures += _memory_and_speed(directory, loads, port)
    shutil.rmtree(directory)
    return figures


def _against_others(directory: Path, load: Load, port: int, runs: int) -> list[Figure]:
    times: dict[str, list[float]] = {"ours": [], "curl": [], "hub": []}
    there = {"ours": True, "curl": shutil.which("curl"), "hub": importlib.util.find_spec("huggingface_hub")}
    tools = [tool for tool in times if there[tool]]
    memory: list[float] = []
    for _ in range(runs):  # in turns, as others may be using the machine
        for tool in tools:
            seconds, mebibytes = _curl(directory, load, port) if tool == "curl" else _child(directory, load, port, tool)
            times[tool].append(seconds / load.ideal_seconds)
            if tool == "ours":
                memory.append(mebibytes)
    peers = ", ".join(f"{tool} {sorted(found)[len(found) // 2]:.3f}" for tool, found in times.items() if found)
    ratio = tuple(times["ours"])
    return [
        Figure(f"fetch {load.name}, time ÷ (size ÷ bandwidth)", ratio, "×", "≤ 1.2", peers, max(ratio) <= 1.2),
        Figure(f"fetch {load.name}, memory", tuple(memory), "MiB", "≤ 100", "", max(memory) <= 100),
    ]


def _memory_and_speed(directory: Path, loads: list[Load], port: int) -> list[Figure]:
    large, _, small = loads
    seconds, of_large = _child(directory, large, port, "ours")
    _, of_small = _child(directory, small, port, "ours")
    peers = ""
    if shutil.which("curl"):
        curl_seconds, _ = _curl(directory, large, port)
        peers = f"curl {large.size_bytes / MEGABYTE / curl_seconds:.0f}, which compares no digest"
    speed = large.size_bytes / MEGABYTE / seconds
    note = f"{of_large:.0f} MiB for 500 MB, {of_small:.0f} MiB for 100 MB"
    growth = of_large - of_small
    return [
        Figure("fetch: growth of memory from 100 to 500 MB", (growth,), "MiB", "≤ 10", "", growth <= 10, note),
        Figure("fetch one-of-500MB over a link without limit", (speed,), "MB/s", "", peers),
    ]


def _load(directory: Path, name: str, count: int, size_bytes: int) -> Load:
    path = directory / name
    return Load(name, count, path, write_weights(path, size_bytes))


@contextmanager
def _link(loads: list[Load], bytes_per_second: float | None) -> Iterator[int]:
    """A server in a process of its own; gives its port."""
    command = [sys.executable, "-m", "e2e.stores.proxy", *(f"{load.name}={load.path}" for load in loads)]
    if bytes_per_second is not None:
        command.append(f"--bytes-per-second={bytes_per_second}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


def _child(directory: Path, load: Load, port: int, tool: str) -> tuple[float, float]:
    """Seconds and MiB, without the start of the interpreter."""
    with _place(directory) as place:
        command = [sys.executable, "-m", "bench.fetch.child", tool, str(place), str(load.size_bytes), load.sha256]
        done = subprocess.run(
            [*command, *load.urls(port)],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if tool == "hub" else None,  # its progress bars
            env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )
        said = json.loads(done.stdout)
        return said["seconds"], said["kib"] / 1024


def _curl(directory: Path, load: Load, port: int) -> tuple[float, float]:
    with _place(directory) as place:
        command = [
            "curl",
            "-sSf",
            "--no-progress-meter",
            "--parallel",
            "--parallel-max",
            str(AT_ONCE),
            "--parallel-immediate",
        ]
        for number, url in enumerate(load.urls(port)):
            command += ["-o", str(place / str(number)), url]
        began = time.monotonic()
        subprocess.run(command, check=True)
        return time.monotonic() - began, 0.0


@contextmanager
def _place(directory: Path) -> Iterator[Path]:
    place = directory / "arrived"
    place.mkdir()
    os.sync()  # what was written before does not hold up who writes now
    try:
        yield place
    finally:
        shutil.rmtree(place)
