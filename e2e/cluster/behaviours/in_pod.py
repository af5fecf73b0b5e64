"""Runs in a pod of the cluster: asks for an adapter all the while, and says at the end what came of it.

    python3 in_pod.py WAY ADAPTER ADDRESS

WAY is "service" (ADDRESS leads to whichever pod), "gateway" (to the right one), or "router" (ADDRESS is the router API,
which says to which). A new connection for each request, as from many users. After SIGTERM it prints one JSON line. The
standard library alone.
"""

from __future__ import annotations

import http.client
import json
import signal
import sys
import time
from collections import Counter

PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 10.0
KEPT = 20


class Asked:
    """What came of the requests so far."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()  # by weights
        self.failed: Counter[str] = Counter()  # by what went wrong
        self.first: list[dict[str, object]] = []
        self.longest_gap_seconds = 0.0
        self.last_answer = time.monotonic()

    def ok(self, weights: str) -> None:
        now = time.monotonic()
        if self.answered:
            self.longest_gap_seconds = max(self.longest_gap_seconds, now - self.last_answer)
        self.last_answer = now
        self.answered[weights] += 1

    def no(self, why: str, where: str) -> None:
        self.failed[why] += 1
        if len(self.first) < KEPT:
            self.first.append({"at": time.time(), "why": why, "where": where})


def post(address: str, path: str, body: object) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_SECONDS)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def ask(way: str, adapter: str, address: str, asked: Asked) -> None:
    where, model, whom = address, adapter, "engine" if way == "service" else way
    try:
        if way == "router":
            status, text = post(address, "/v1/pick", {"adapter": adapter})
            if status != 200:
                asked.no(f"router: HTTP {status} {reason(text)}", address)
                return
            picked = json.loads(text)
            where, model, whom = picked["address"], picked.get("engineName") or adapter, "engine"
        wanted = {"model": model, "prompt": "a prompt that is long enough", "max_tokens": 4, "temperature": 0}
        status, text = post(where, "/v1/completions", wanted)
        if status != 200:
            asked.no(f"{whom}: HTTP {status} {reason(text)}", where)
            return
        asked.ok(json.loads(text)["choices"][0]["text"].partition("weights=")[2].partition(" ")[0] or "?")
    except (OSError, http.client.HTTPException, ValueError) as error:
        asked.no(f"{whom}: {type(error).__name__}", where)


def reason(text: str) -> str:
    try:
        body = json.loads(text)
        return str(body.get("reason") or body.get("title") or body["error"]["type"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def main(way: str, adapter: str, address: str) -> None:
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    asked = Asked()
    print("asking", flush=True)
    while not ended:
        ask(way, adapter, address, asked)
        time.sleep(PAUSE_SECONDS)
    print(
        json.dumps(
            {
                "answered": asked.answered,
                "failed": asked.failed,
                "first": asked.first,
                "longest_gap_seconds": round(asked.longest_gap_seconds, 3),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
