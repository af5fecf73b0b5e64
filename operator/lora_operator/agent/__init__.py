"""The sidecar in a vLLM pod: fetches adapters onto the pod's or node's disk, and keeps that disk within its budget.

It needs no cloud SDK and no credentials of sources; `wire` is what it and the operator say to each other.
"""
