"""The gateway of the operator's chart on loopback: its very configuration, with other addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from e2e.controlplane.helm import run_helm
from e2e.controlplane.processes import free_ports
from e2e.envoy.install import find_envoy
from e2e.stores.store_process import StoreProcess

CHART = Path(__file__).parents[2] / "helm" / "lora-operator"
SYSTEM = "lora-operator-system"


class ChartGateway:
    """`with ChartGateway(picker_port, directory) as gateway:` answers at `gateway.url` as the chart's pods do.

    `values`: of the chart's `gateway`; `chart`: others of its values. `files`: what the pods have mounted, by its path
    there.
    """

    def __init__(
        self, picker_port: int, directory: Path, values: Mapping[str, Any] | None = None, *,
        files: Mapping[str, Path] | None = None, chart: Mapping[str, Any] | None = None, tls: bool = False,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._picker_port = picker_port
        self._values = dict(values or {})
        self._chart = dict(chart or {})
        self._files = dict(files or {})
        self._scheme = "https" if tls else "http"

    def __enter__(self) -> ChartGateway:
        self._directory.mkdir(parents=True, exist_ok=True)
        program = find_envoy()
        self.metrics_port, admin = free_ports(2)
        texts = rendered(self._directory, self._values, self._chart)

        def command(port: int) -> list[str | Path]:
            config = on_loopback(texts["envoy.yaml"], port, self.metrics_port, admin, self._picker_port)
            moved = json.dumps(config)
            for path, file in (self._files | self._written(texts)).items():
                moved = moved.replace(path, str(file))
            file = self._directory / "envoy.json"
            file.write_text(moved)
            return [program, "-c", file, "--log-level", "warning", "--disable-hot-restart", "--concurrency", "1"]

        self.log = self._directory / "envoy.log"
        self._process = StoreProcess("the gateway's Envoy", command, self.log, {})
        self.port = self._process.port
        self.url = f"{self._scheme}://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    def _written(self, texts: Mapping[str, str]) -> dict[str, Path]:
        """The rest of the ConfigMap."""
        found = {}
        for name, text in texts.items():
            if name == "envoy.yaml":
                continue
            for path, file in self._files.items():
                text = text.replace(path, str(file))
            (self._directory / name).write_text(text)
            found[f"/etc/gateway/{name}"] = self._directory / name
        return found


def rendered(directory: Path, gateway: Mapping[str, Any], chart: Mapping[str, Any]) -> dict[str, str]:
    """The gateway's ConfigMap, as the chart gives it for these values. Raises HelmError."""
    file = directory / "values.json"
    values = {"image": {"repository": "none"}, "gateway": {"enabled": True, **gateway}, **chart}
    file.write_text(json.dumps(values))
    text = run_helm(
        "template", "lora-operator", str(CHART), "--namespace", SYSTEM, "--values", str(file),
        "--show-only", "templates/gateway/gateway.yaml",
    )  # fmt: skip
    (found,) = [one for one in yaml.safe_load_all(text) if one["kind"] == "ConfigMap"]
    return dict(found["data"])


def on_loopback(text: str, port: int, metrics: int, admin: int, picker: int) -> dict[str, Any]:
    """The configuration with ports of this machine, and the picker on one of them."""
    config: dict[str, Any] = yaml.safe_load(text)
    static = config["static_resources"]
    config["admin"]["address"] = _address(admin)
    for listener, where in zip(static["listeners"], (port, metrics), strict=True):
        listener["address"] = _address(where)
    clusters = {one["name"]: one for one in static["clusters"]}
    for name, where in (("picker", picker), ("admin", admin)):
        (end,) = clusters[name]["load_assignment"]["endpoints"][0]["lb_endpoints"]
        end["endpoint"]["address"] = _address(where)
    clusters["picker"]["type"] = "STATIC"
    del clusters["picker"]["dns_lookup_family"]
    return config


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
