"""The HTTP API: what is read of requests, and what is answered. Everything else is decided below."""
