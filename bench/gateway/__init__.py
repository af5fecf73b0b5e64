"""What routing through the gateway is worth, in virtual time, and what it costs behind a real Envoy."""
