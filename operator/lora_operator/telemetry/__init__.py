"""Logs, metrics, health: what people and Prometheus are shown."""
