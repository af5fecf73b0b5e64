"""Which values a chart's templates count on, and a template that says so where one is missing.

With `helm upgrade --reuse-values` a release keeps the values of the chart that it had, without those that the new chart
has added. Templates would then fail somewhere with a nil pointer, or take a switch that is on by default for off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TEMPLATE = """\
{{- /* Written by `make manifests` from values.yaml: what the templates count on, see helm/needed_values.py. */}}
{{- range $name := list
NAMES
}}
{{- $at := $.Values }}
{{- range splitList "." $name }}
{{- if not (hasKey $at .) }}
{{- fail (printf "MESSAGE" $name) }}
{{- end }}
{{- $at = index $at . }}
{{- end }}
{{- end }}
"""

MESSAGE = (
    "the values lack %s, which this chart counts on: after --reuse-values, which keeps those of an older chart, use "
    "--reset-then-reuse-values instead; and what is null in your values must be left out"
)


def check_of_values(chart: Path) -> str:
    """The template for the chart in this folder, from its values and their schema."""
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load((chart / "values.yaml").read_text())
    names = needed_values(values, schema, schema.get("$defs", {}))
    listed = "\n".join(f"  {json.dumps(name)}" for name in names)
    return TEMPLATE.replace("NAMES", listed).replace("MESSAGE", MESSAGE)


def needed_values(
    values: Mapping[str, Any], schema: Mapping[str, Any], shared: Mapping[str, Any], above: str = ""
) -> list[str]:
    """Dotted names of the values that must be there. Empty ones need not be, nor what is handed on as it stands."""
    names: list[str] = []
    for name, value in values.items():
        part = schema["properties"][name]
        part = shared[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        dotted = f"{above}{name}"
        if "properties" in part:
            names += [dotted, *needed_values(value, part, shared, f"{dotted}.")]
        elif value not in ("", [], {}) and part.get("type") != "object":
            names.append(dotted)
    return names
