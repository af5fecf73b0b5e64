"""The command line: vLLM's own flags where they matter here, and `--sim-…` flags for what only a simulator has."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .releases import Release, release_traits


class ArgumentsRefused(ValueError):
    """The command line asks for something that vLLM would not start with."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One engine's settings. Times are in seconds."""

    model: str
    served_names: tuple[str, ...]
    host: str
    port: int
    release: Release
    enable_lora: bool
    max_loras: int
    max_cpu_loras: int
    max_lora_rank: int
    max_model_len: int | None
    max_num_seqs: int
    block_size: int
    prefix_caching: bool
    api_keys: tuple[str, ...]
    runtime_updating: bool
    rust_frontend: bool
    allowed_prefixes: tuple[str, ...]
    dev_mode: bool
    tells_cached_tokens: bool
    static_adapters: tuple[tuple[str, str], ...]
    model_config: Path | None
    load_seconds: float
    unload_seconds: float
    startup_seconds: float
    parallel_loads: bool
    seconds_per_token: float
    ignored: tuple[str, ...]
    ranks: int = 1  # servers, on ports one after the other


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentsRefused(message)


def make_parser(description: str) -> argparse.ArgumentParser:
    """The parser, for `--help`."""
    p = _Parser("python -m e2e.vllm_sim", description=description, formatter_class=argparse.RawTextHelpFormatter,
                allow_abbrev=False)  # fmt: skip
    v = p.add_argument_group("vLLM's own flags (others are accepted and ignored, with a warning)")
    v.add_argument("--model", default=None, help="a folder with config.json, or just a name")
    v.add_argument("--served-model-name", nargs="+", default=None)
    v.add_argument("--host", default=None)
    v.add_argument("--port", type=int, default=8000, help="0 takes any free port")
    v.add_argument("--enable-lora", action=argparse.BooleanOptionalAction, default=False)
    v.add_argument("--max-loras", type=int, default=1)
    v.add_argument("--max-cpu-loras", type=int, default=None)
    v.add_argument("--max-lora-rank", type=int, default=16)
    v.add_argument("--lora-modules", nargs="+", default=[], help="name=path, or JSON")
    v.add_argument("--max-model-len", type=int, default=None)
    v.add_argument("--max-num-seqs", type=int, default=256)
    v.add_argument("--block-size", type=int, default=16, help="in tokens; here a character is a token")
    v.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True)
    v.add_argument("--enforce-eager", action="store_true")
    v.add_argument("--dtype", default="auto")
    v.add_argument("--enable-prompt-tokens-details", action="store_true")
    v.add_argument("--api-key", nargs="+", default=[])
    v.add_argument("--api-server-count", type=int, default=1)
    v.add_argument("--data-parallel-multi-port-external-lb", action="store_true", help="as a process only: a server\n"
                   "for each of --data-parallel-size-local, on ports one after the other")  # fmt: skip
    v.add_argument("--data-parallel-size-local", type=int, default=1)
    s = p.add_argument_group("the simulator's own")
    s.add_argument("--release", default="0.32.0", help="the release of vLLM to play (default 0.32.0)")
    s.add_argument("--sim-bind", default=None, help="listen here, whatever --host says (default: --host, or loopback)")
    s.add_argument("--sim-model-config", type=Path, default=None, help="config.json of the base model")
    s.add_argument("--sim-load-seconds", type=float, default=0.01, help="reading an adapter takes this long")
    s.add_argument(
        "--sim-parallel-loads", action="store_true", help="read adapters side by side, which no real engine does"
    )
    s.add_argument("--sim-unload-seconds", type=float, default=0.0)
    s.add_argument("--sim-startup-seconds", type=float, default=0.2, help="connections are refused for so long")
    s.add_argument("--sim-seconds-per-token", type=float, default=0.0)
    return p


def parse_arguments(args: Sequence[str], env: Mapping[str, str], *, description: str = "") -> Settings:
    """Settings from vLLM's command line and environment. Raises ArgumentsRefused where vLLM would not start."""
    words = [_dashes(word) for word in args]
    if words[:1] == ["serve"]:
        words = words[1:]
    if words and not words[0].startswith("-"):  # `vllm serve MODEL`
        words = ["--model", *words]
    ns, unknown = make_parser(description).parse_known_args(words)
    try:
        release = release_traits(ns.release)
    except ValueError as exc:
        raise ArgumentsRefused(str(exc)) from None
    model = ns.model or "facebook/opt-125m"
    max_cpu_loras = ns.max_cpu_loras if ns.max_cpu_loras is not None else ns.max_loras
    if ns.enable_lora:
        _check_limits(ns, release, max_cpu_loras)
    updating = env.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").strip().lower() in ("1", "true")
    if updating and ns.api_server_count > 1:
        raise ArgumentsRefused("VLLM_ALLOW_RUNTIME_LORA_UPDATING cannot be used with api_server_count > 1")
    keys = tuple(ns.api_key) or tuple(k for k in [env.get("VLLM_API_KEY", "")] if k)
    return Settings(
        model=model,
        served_names=tuple(ns.served_model_name or [model]),
        host=ns.sim_bind or ns.host or "127.0.0.1",
        port=ns.port,
        release=release,
        enable_lora=ns.enable_lora,
        max_loras=ns.max_loras,
        max_cpu_loras=max_cpu_loras,
        max_lora_rank=ns.max_lora_rank,
        max_model_len=ns.max_model_len,
        max_num_seqs=ns.max_num_seqs,
        block_size=ns.block_size,
        prefix_caching=ns.enable_prefix_caching,
        api_keys=keys,
        runtime_updating=updating,
        rust_frontend=env.get("VLLM_USE_RUST_FRONTEND", "0") == "1",
        allowed_prefixes=tuple(p for p in env.get("VLLM_RUNTIME_LORA_ALLOWED_PATH_PREFIXES", "").split(":") if p),
        tells_cached_tokens=ns.enable_prompt_tokens_details,
        dev_mode=env.get("VLLM_SERVER_DEV_MODE", "0") == "1",
        static_adapters=tuple(_static_adapter(text) for text in ns.lora_modules),
        model_config=_model_config(ns.sim_model_config, model),
        load_seconds=ns.sim_load_seconds,
        unload_seconds=ns.sim_unload_seconds,
        startup_seconds=ns.sim_startup_seconds,
        parallel_loads=ns.sim_parallel_loads,
        seconds_per_token=ns.sim_seconds_per_token,
        ignored=tuple(unknown),
        ranks=ns.data_parallel_size_local if ns.data_parallel_multi_port_external_lb else 1,
    )


def _dashes(word: str) -> str:
    """vLLM takes --max_loras as well as --max-loras."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _check_limits(ns: argparse.Namespace, release: Release, max_cpu_loras: int) -> None:
    if ns.max_lora_rank not in release.rank_limits:
        allowed = ", ".join(str(rank) for rank in release.rank_limits)
        raise ArgumentsRefused(f"argument --max-lora-rank: invalid choice: {ns.max_lora_rank} (choose from {allowed})")
    if ns.max_loras < 1:
        raise ArgumentsRefused(f"max_loras ({ns.max_loras}) must be >= 1")
    if max_cpu_loras < ns.max_loras:
        raise ArgumentsRefused(f"max_cpu_loras ({max_cpu_loras}) must be >= max_loras ({ns.max_loras}).")


def _static_adapter(text: str) -> tuple[str, str]:
    if text.startswith("{"):
        entry = json.loads(text)
        return str(entry["name"]), str(entry["path"])
    name, equals, path = text.partition("=")
    if not equals:
        raise ArgumentsRefused(f"argument --lora-modules: {text!r} is not name=path")
    return name, path


def _model_config(explicit: Path | None, model: str) -> Path | None:
    if explicit is not None:
        if not explicit.is_file():
            raise ArgumentsRefused(f"argument --sim-model-config: {explicit} is not a file")
        return explicit
    beside = Path(model) / "config.json"
    return beside if beside.is_file() else None


def warn_about_ignored(settings: Settings) -> None:
    """Say once which flags have no meaning here."""
    if settings.ignored:
        print(f"vllm-sim: ignored: {' '.join(settings.ignored)}", file=sys.stderr, flush=True)
