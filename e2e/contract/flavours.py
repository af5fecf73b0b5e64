"""How each kind of server is started: the same command line for the simulator and for real vLLM."""

from __future__ import annotations

import tempfile

from .case import Server
from .frontend import Frontend
from .target import ADAPTERS, BASE, KEY

_COMMON = [
    "--served-model-name", BASE, "--enforce-eager", "--max-model-len", "512", "--dtype", "float32",
    "--block-size", "128", "--enable-prompt-tokens-details",
]  # fmt: skip
_LORA = ["--enable-lora", "--max-loras", "2", "--max-cpu-loras", "3", "--max-lora-rank", "16"]
_UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}

ARGUMENTS: dict[Server, list[str]] = {
    Server.USUAL: [*_COMMON, *_LORA],
    Server.KEYED: [*_COMMON, *_LORA, "--no-enable-prefix-caching", "--api-key", KEY],
    Server.NOT_UPDATABLE: [*_COMMON, *_LORA],
    Server.WITHOUT_LORA: _COMMON,
}
ENVIRONMENT: dict[Server, dict[str, str]] = {
    Server.USUAL: {**_UPDATING, "VLLM_SERVER_DEV_MODE": "1"},
    Server.KEYED: _UPDATING,
    Server.NOT_UPDATABLE: {},
    Server.WITHOUT_LORA: _UPDATING,
}
_RUST = {
    "VLLM_USE_RUST_FRONTEND": "1",
    "VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES": f"{ADAPTERS}:{tempfile.gettempdir()}",
}


def environment_of(server: Server, frontend: Frontend) -> dict[str, str]:
    """The environment of a kind of server with that frontend."""
    return {**ENVIRONMENT[server], **(_RUST if frontend is Frontend.RUST else {})}
