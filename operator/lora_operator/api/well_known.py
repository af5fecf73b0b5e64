"""The API's well-known names: group, plurals, labels, annotations, the finalizer and the readiness gate."""

from __future__ import annotations

GROUP = "production-stack.vllm-project"
VERSION = "v1alpha1"
PLURAL = "loraadapters"
ENDPOINTS = "loraendpoints"
FINALIZER = f"{GROUP}/unload"
REFRESH_ANNOTATION = f"{GROUP}/refresh"
KEYWORDS_ANNOTATION = f"{GROUP}/keywords"
PIN_ANNOTATION = f"{GROUP}/pinned"
SERVED_ANNOTATION = f"{GROUP}/served-versions"
MODELS_ANNOTATION = f"{GROUP}/models"
GATE = f"{GROUP}/adapters-loaded"
POD_LABEL = f"{GROUP}/lora"
ROUTER_PORT = 8082
