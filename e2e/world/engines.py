"""Talks to one simulated (or real) engine the way a user's request or a test's controls do."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
_SAID = re.compile(r"adapter=(\S+) weights=(\S+) cached=(\S+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion. For the simulator: which adapter and weights computed it, and whose cached prefix it reused."""

    status: int
    text: str
    adapter: str = ""
    weights: str = ""
    cached: str = ""

    @property
    def stale(self) -> bool:
        """Computed partly from what other weights left in the prefix cache."""
        return self.cached not in ("", "none", self.weights)


class EngineProbe:
    """An engine at `ip:port`."""

    def __init__(self, address: str, api_key: str | None = None, timeout: float = 10.0) -> None:
        self.address = address
        self._api_key = api_key
        self._timeout = timeout

    def models(self) -> dict[str, str]:
        """Name -> root of the adapters that it lists."""
        listed = self._call("GET", "/v1/models")[1]["data"]
        return {item["id"]: item["root"] for item in listed if item.get("parent")}

    def complete(self, model: str, prompt: str = "a prompt that is long enough to be cached by blocks") -> Answer:
        """One completion; an error status is an answer too."""
        wanted = {"model": model, "prompt": prompt, "max_tokens": 4, "temperature": 0}
        status, body = self._call("POST", "/v1/completions", wanted)
        if status != 200:
            return Answer(status, json.dumps(body))
        text = str(body["choices"][0]["text"])
        said = _SAID.search(text)
        return Answer(status, text, *(said.groups() if said else ()))

    def load(self, name: str, path: str) -> int:
        """As somebody who goes behind the operator's back."""
        return self._call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})[0]

    def unload(self, name: str) -> int:
        return self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})[0]

    def fault(self, **fault: object) -> None:
        """Switch a fault on (see e2e.vllm_sim)."""
        status, body = self._call("POST", "/sim/faults", fault)
        assert status < 300, body

    def heal(self) -> None:
        """Switch all faults off."""
        self._call("DELETE", "/sim/faults")

    def events(self) -> list[Json]:
        """What happened inside the simulator, with times."""
        return list(self._call("GET", "/sim/events")[1]["events"])

    def calls(self) -> dict[str, int]:
        """How often each endpoint was called."""
        return dict(self._call("GET", "/sim/events")[1]["calls"])

    def _call(self, method: str, path: str, body: object = None) -> tuple[int, Json]:
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())


def _json(data: bytes) -> Json:
    try:
        parsed = json.loads(data)
    except ValueError:
        return {"text": data.decode(errors="replace")}
    return parsed if isinstance(parsed, dict) else {"value": parsed}
