"""The endpoint picker for gateways built on Envoy: gRPC's `ext_proc` in front, the router's decisions behind.

Needs the extra `envoy`. Nothing is decided here: what Envoy says becomes a question, and the answer what Envoy does.
"""
