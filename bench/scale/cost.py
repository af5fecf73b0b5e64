"""What one process has cost so far."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import psutil

from e2e.world.operator_process import OperatorProcess

BLOCKS = re.compile(r"^lora_operator_event_loop_(longest_block|busiest_block_cpu)_seconds (\S+)$", re.MULTILINE)


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def peak_mb(pid: int) -> float:
    """The most memory that was resident at once, in MB."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def longest_blocks_seconds(operator: OperatorProcess) -> tuple[float, float]:
    """Of its event loop, by the clock and in processor time, from its metrics; not numbers where it does not tell."""
    found = dict(BLOCKS.findall(operator.fetch("/metrics")))
    return float(found.get("longest_block", "nan")), float(found.get("busiest_block_cpu", "nan"))


def writes(audit_log: Path, since: int, user: str) -> tuple[Counter[str], int]:
    """The requests that change something that this user made, by what they change, but for the Lease; and where the log
    ends now. `since`: where it ended before, in bytes."""
    count: Counter[str] = Counter()
    with audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            if not line.endswith(b"\n"):
                break
            since += len(line)
            event = json.loads(line)
            if event.get("stage") == "ResponseComplete" and event["user"]["username"] == user:
                what = event.get("objectRef") or {}
                if event["verb"] not in ("get", "list", "watch") and what.get("resource") != "leases":
                    count["/".join(what[key] for key in ("resource", "subresource") if what.get(key))] += 1
    return count, since
