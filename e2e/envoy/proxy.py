"""Envoy as a process: one listener, the endpoint picker as external processor, and pods by the header that it sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from e2e.envoy.install import find_envoy
from e2e.stores.store_process import StoreProcess

HEADER = "x-gateway-destination-endpoint"
TYPES = "type.googleapis.com/envoy.extensions"


class Envoy:
    """`with Envoy(picker_port, directory) as envoy:` listens on `envoy.url`.

    `fixed`: an address that all requests go to without asking anybody, for comparison. `mode`: how bodies come to the
    picker; `response_mode`: whether answers are shown to it as well (gateways differ). `fail_open`: requests go on,
    without an endpoint, where the picker does not answer. `subset`: the endpoints that it may choose from.
    """

    def __init__(
        self, picker_port: int, directory: Path, *, fixed: str = "", mode: str = "FULL_DUPLEX_STREAMED",
        response_mode: str = "NONE", fail_open: bool = False, tls: bool = False, subset: tuple[str, ...] | None = None,
        namespace: str = "",
    ) -> None:  # fmt: skip
        self._program = find_envoy()
        self._directory = directory
        self._filters = [] if fixed else [_picker(mode, response_mode, fail_open, namespace)]
        if subset is not None:
            hint = {"envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": list(subset)}}
            self._filters.insert(0, _metadata(hint))
        self._clusters = [_fixed_cluster(fixed) if fixed else _pods_cluster()]
        self._clusters += [] if fixed else [_picker_cluster(picker_port, tls)]

    def __enter__(self) -> Envoy:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.log = self._directory / "envoy.log"
        self._process = StoreProcess("Envoy", self._command, self.log, {})
        self.url = f"http://127.0.0.1:{self._process.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()

    @property
    def port(self) -> int:
        return self._process.port

    def _command(self, port: int) -> list[str | Path]:
        config = {"static_resources": {"listeners": [_listener(port, self._filters)], "clusters": self._clusters}}
        file = self._directory / "envoy.json"
        file.write_text(json.dumps(config, indent=1))
        quiet = ["--log-level", "warning", "--disable-hot-restart", "--concurrency", "1"]
        return [self._program, "-c", str(file), *quiet]


def _typed(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{TYPES}.{kind}", **config}}


def _listener(port: int, filters: list[dict[str, Any]]) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s"}}
    manager = _typed(
        "manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        normalize_path=True,
        # a client that could send this header would choose where a request goes while no picker answers
        early_header_mutation_extensions=[
            _typed(
                "removal",
                "http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[{"remove": HEADER}],
            )
        ],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[*filters, _typed("router", "filters.http.router.v3.Router")],
    )
    return {"name": "gateway", "address": _address("127.0.0.1", port), "filter_chains": [{"filters": [manager]}]}


def _picker(mode: str, response_mode: str, fail_open: bool, namespace: str) -> dict[str, Any]:
    grpc: dict[str, Any] = {"envoy_grpc": {"cluster_name": "picker"}}
    if namespace:
        grpc["initial_metadata"] = [{"key": "x-lora-namespace", "value": namespace}]
    duplex = "FULL_DUPLEX_STREAMED"
    sends = {True: "SEND", False: "SKIP"}
    return _typed(
        "picker",
        "filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service=grpc,
        failure_mode_allow=fail_open,
        processing_mode={
            "request_header_mode": "SEND",
            "request_body_mode": mode,
            "request_trailer_mode": sends[mode == duplex],
            "response_header_mode": sends[response_mode != "NONE"],
            "response_body_mode": response_mode,
            "response_trailer_mode": sends[response_mode == duplex],
        },
        metadata_options={
            "forwarding_namespaces": {"untyped": ["envoy.lb.subset_hint"]},
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
        },
    )


def _metadata(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    entries = [{"metadata_namespace": name, "value": dict(value)} for name, value in values.items()]
    return _typed("metadata", "filters.http.set_metadata.v3.Config", metadata=entries)


def _pods_cluster() -> dict[str, Any]:
    return {
        "name": "pods",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": HEADER},
    }


def _fixed_cluster(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"name": "pods", "type": "STATIC", "load_assignment": _assignment("pods", host, int(port))}


def _picker_cluster(port: int, tls: bool) -> dict[str, Any]:
    http2: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    options = {"@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions", **http2}
    cluster: dict[str, Any] = {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": _assignment("picker", "127.0.0.1", port),
    }
    if tls:  # as gateways do: encrypted, and the certificate not checked
        cluster["transport_socket"] = _typed(
            "tls", "transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context={"alpn_protocols": ["h2"]}
        )
    return cluster


def _assignment(name: str, host: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(host, port)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
