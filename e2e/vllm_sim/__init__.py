"""vllm-sim: a server that speaks vLLM's dynamic LoRA contract without a model, as a process or in this one.

    python -m e2e.vllm_sim --model tiny --enable-lora --max-loras 2 --max-cpu-loras 4 --port 8000

    engine = await serve(["--model", "tiny", "--enable-lora", "--port", "0"], {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})
    engine.url, engine.adapters, engine.faults.add("hang", "load"), engine.journal.events
    await engine.stop()      # or engine.kill(); engine.exited is an asyncio.Event, engine.exit_code a number

It plays one release (`--release`, default 0.32.0). Flags are vLLM's own; those without meaning here are ignored
with a warning. `--model` is a folder with config.json, whose shapes are then checked, or just a name
(`--sim-model-config FILE` gives it shapes). Environment: VLLM_ALLOW_RUNTIME_LORA_UPDATING, VLLM_API_KEY,
VLLM_SERVER_DEV_MODE, as vLLM's.

Adapter files are read and checked for real. A completion's text says what computed it:

    adapter=<name or base> weights=<hex> cached=<hex or none>

`weights` is the first 12 hex digits of the SHA-256 of adapter_model.safetensors as it was read (000000000000 for
the base), `cached` the same of the weights that computed the reused prefix. An answer is stale where `cached` is
neither `none` nor equal to `weights`. ` nan=1` follows where the weights hold NaN, and in the next two answers,
whoever asks. A character is a token; a prefix is reused in blocks of --block-size (16) tokens, so a prompt must
have more than 16 characters to be found again.

GET  /sim/events   {"events": [{"at": time.time(), "event": …, …}], "calls": {"models": 3, "load": 1, …}}
                   events: started, healthy, load and unload (name, path, status, seconds), reset_prefix_cache,
                   engine died, exited. A load or unload that a fault kept from the engine is not an event.
POST /sim/faults   switches a fault on, GET shows what is on, DELETE clears all (?id=3: one); they answer always:
    {"kind": "hang", "endpoint": "all"}              no answer until cleared, then the request goes on
    {"kind": "status", "endpoint": "load", "status": 500, "times": 2}
    {"kind": "slow", "endpoint": "models", "seconds": 1.5}
    {"kind": "late", "endpoint": "load", "seconds": 5}   loads at once, answers late (no seconds: when cleared)
    {"kind": "drop", "endpoint": "load", "after": true}  cuts the connection, here after doing the work
    {"kind": "crash", "exit_code": 1}                the process ends when the next load arrives
    {"kind": "forget_unload", "name": "a"}           unload answers 200 and the name stays
  endpoint: load, unload, models, health, version, metrics, completions, chat, ping, invocations, other, all;
  times: how many requests it hits (absent: all); name: only loads and unloads of this adapter.
"""

from .arguments import ArgumentsRefused
from .server import Engine, serve

__all__ = ["ArgumentsRefused", "Engine", "serve"]
