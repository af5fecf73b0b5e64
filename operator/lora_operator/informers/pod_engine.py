"""What a pod shows about its engine that keeps adapters away: what vLLM there cannot do, and why it is not expected to
answer. Pure.

What is said to be impossible has to be certain, and the annotation `lora-enabled: "true"` overrules it. Why no answer
is expected only explains a silence: an engine that answers all the same is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_operator.api.well_known import GROUP
from lora_operator.informers.loose_json import text
from lora_operator.informers.pod_group import OWN_SERVERS, worker_index
from lora_operator.informers.pod_ports import A_PORT_FOR_EACH_RANK
from lora_operator.vllm.command import EngineCommand
from lora_operator.vllm.hidden import is_hidden
from lora_operator.vllm.quirks import parse_release

RUNTIME_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
DEV_MODE = "VLLM_SERVER_DEV_MODE"
RUST_FRONTEND = "VLLM_USE_RUST_FRONTEND"
ALLOWED_PATHS = "VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES"
# vLLM ends at once with several API servers and runtime updating; before, one was started unless more were asked for.
SEVERAL_SERVERS_SINCE = (0, 16, 0)
_SHOWN = 60
_OVERRULE = f'if it can all the same, say so in the annotation {GROUP}/lora-enabled: "true"'


def cannot_load(command: EngineCommand, container: str, ports: Sequence[int]) -> str | None:
    """Why the engine loads no adapters, where the pod shows that for certain; what the image may set is left for the
    engine to say. `ports`: where its servers are known to listen."""
    enabled = command.switch("enable-lora")
    overrule = f'if it has it all the same, say so in the annotation {GROUP}/lora-enabled: "true"'
    if (enabled is False and not command.open_ended) or (enabled is None and command.visible):
        return f"container {container!r} runs vLLM without --enable-lora; add it to its arguments, or {overrule}"
    updating = _updating(command)
    if updating is False:
        value = command.environment.values[RUNTIME_UPDATING][:_SHOWN]
        return f"container {container!r} has {RUNTIME_UPDATING}={value!r}; set it to True, or {overrule}"
    if command.switch(A_PORT_FOR_EACH_RANK) and len(ports) == 1:
        return (
            f"container {container!r} runs one server for each data-parallel rank, each on a port of its own "
            f"(--{A_PORT_FOR_EACH_RANK}), and the pod does not show how many; write --data-parallel-size-local as a "
            f"number, or say all ports in the annotation {GROUP}/port, such as {ports[0]}-{ports[0] + 7}; {_OVERRULE}"
        )
    return None


def refuses_paths(command: EngineCommand, container: Mapping[str, Any], root: str) -> str | None:
    """Why vLLM's Rust frontend takes no adapter from below `root`, where that is certain: it takes none but from below
    the paths that it is told."""
    values = command.environment.values
    rust = command.module == "vllm-rs" or values.get(RUST_FRONTEND, "").strip().lower() in ("1", "true")
    allowed = values.get(ALLOWED_PATHS)
    unseen = container.get("envFrom") if allowed is None else is_hidden(allowed)
    if not rust or unseen:
        return None
    prefixes = [path.rstrip("/") or "/" for path in (allowed or "").split(":") if path]
    if any(path == "/" or root == path or root.startswith(f"{path}/") for path in prefixes):
        return None
    return (
        f"container {text(container.get('name')) or ''!r} runs vLLM's Rust frontend, which loads adapters only from "
        f"paths that {ALLOWED_PATHS} names; set it to {root}; {_OVERRULE}"
    )


def may_sleep(command: EngineCommand) -> bool:
    """Whether the engine can be told to sleep and has the route that says whether it does: asking costs a request for
    each probe."""
    mode = command.environment.values.get(DEV_MODE, "0").strip()
    switched = command.switch("enable-sleep-mode")
    return mode != "0" and (bool(switched) or (switched is None and (command.open_ended or not command.visible)))


def why_silent(command: EngineCommand, container: str, image_tag: str | None, labels: Mapping[str, str]) -> str:
    """Why no answer is expected from the engine; empty where the pod shows no reason."""
    if command.switch("headless"):
        return f"container {container!r} runs vLLM with --headless: it computes for a server in another pod"
    if (index := worker_index(labels)) > 0 and not command.found:
        return f"it is worker {index} of a LeaderWorkerSet: it computes for the server in its leader's pod"
    if command.value("uds") is not None:
        return (
            f"container {container!r} listens on a Unix socket (--uds), which nobody outside of the pod can reach; "
            "give vLLM --port in place of --uds"
        )
    if command.module == "dynamo.vllm":
        return (
            f"container {container!r} runs dynamo.vllm, which has no server of vLLM's own: adapters cannot be loaded "
            "through it; run `vllm serve` in place of it"
        )
    servers = _servers(command, image_tag)
    if servers is not None and _updating(command):
        return (
            f"container {container!r} has {RUNTIME_UPDATING} and {servers}: vLLM ends at once with both; add "
            "--api-server-count 1"
        )
    return ""


def _servers(command: EngineCommand, image_tag: str | None) -> str | None:
    """How the command line asks for more than one API server."""
    count, ranks = command.first("api-server-count", "asc"), command.first("data-parallel-size", "dp")
    if count is not None:
        several = count.isascii() and count.isdigit() and int(count) > 1
        return f"--api-server-count {count[:_SHOWN]}" if several else None
    release = parse_release(image_tag or "")
    old = release is not None and release < SEVERAL_SERVERS_SINCE
    alone = command.visible and not any(command.switch(option) for option in OWN_SERVERS)
    if alone and not old and ranks is not None and ranks.isascii() and ranks.isdigit() and int(ranks) > 1:
        return f"--data-parallel-size {ranks[:_SHOWN]}, which starts as many API servers"
    return None


def _updating(command: EngineCommand) -> bool | None:
    value = command.environment.values.get(RUNTIME_UPDATING)
    return None if value is None or is_hidden(value) else value.strip().lower() in ("1", "true")
