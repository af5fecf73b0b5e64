"""The API server: the client, the Lease, one queue of writes, Events, and what must be there before work begins."""
