"""What is measured, one flat record per fleet and method, kept as JSON lines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bench.placement.fleets import Shape
from bench.placement.quality import Quality

Record = dict[str, Any]


def record(section: str, shape: Shape, method: str, quality: Quality | None = None, **more: object) -> Record:
    """`more` wins over what fleet and quality say."""
    line: Record = {"section": section, "size": shape.size, "method": method} | asdict(shape)
    if quality is not None:
        line |= asdict(quality)
        line["served"] = {str(priority): round(demand, 6) for priority, demand in sorted(quality.served.items())}
    return line | more
