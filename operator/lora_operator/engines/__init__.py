"""What is known of each engine: probes of /v1/models, liveness, whose models they are, traffic."""
