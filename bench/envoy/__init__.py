"""The endpoint picker behind a real Envoy: a picker over a made fleet in a process of its own, an engine that does
nothing, and clients that send requests through."""
