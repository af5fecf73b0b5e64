"""A real Prometheus as a process on loopback, with the chart's alerts, and what it answers."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from e2e.behaviours.dashboard import ALERTS
from e2e.world.world import eventually

MISSING = "prometheus is not on the PATH (Debian, Ubuntu: apt install prometheus)"


def is_installed() -> bool:
    """Whether there is one to start."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """Scrapes `targets` (job -> host:port) twice a second while it is entered."""

    def __init__(self, directory: Path, targets: Mapping[str, Sequence[str]]) -> None:
        directory.mkdir()
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        jobs = [{"job_name": job, "static_configs": [{"targets": list(hosts)}]} for job, hosts in targets.items()]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": jobs,
        }
        (directory / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
        self._count = sum(len(hosts) for hosts in targets.values())

    def __enter__(self) -> Prometheus:
        log = (self._directory / "log").open("wb")
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={self._directory}/prometheus.json",
             f"--storage.tsdb.path={self._directory}/data", f"--web.listen-address={self.url.removeprefix('http://')}"],
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        try:
            eventually(lambda: self._sees_all(), what=["Prometheus scrapes all", str(self._directory / "log")])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)

    def _sees_all(self) -> bool:
        assert self._process.poll() is None, (self._directory / "log").read_text()
        try:
            return sum(self.query("up").values()) == self._count
        except OSError:
            return False

    def query(self, text: str) -> dict[str, float]:
        """The present values by their labels; those that are no numbers are left out."""
        result = self.get("query", query=text)["result"]
        found = {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in result}
        return {labels: value for labels, value in found.items() if not math.isnan(value)}

    def series(self, match: str) -> list[dict[str, str]]:
        """The labels of all series that match, their names as __name__."""
        return list(self.get("series", **{"match[]": match}))

    def get(self, what: str, **question: str) -> Any:
        """`data` of an answer of the API. Raises OSError for any but 200."""
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(question)}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read())["data"]
