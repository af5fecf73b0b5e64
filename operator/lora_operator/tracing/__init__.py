"""Traces: `spans` is what the code calls, `collector` decides whether anything is sent, and `otel` sends it.

`otel` needs the extra of that name and is imported only where somebody wants traces."""

from lora_operator.tracing.spans import OFF, Parent, Tracing, Value, reconciling, without_secrets

__all__ = ["OFF", "Parent", "Tracing", "Value", "reconciling", "without_secrets"]
