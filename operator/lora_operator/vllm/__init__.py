"""What is known of the engine: its HTTP client and typed errors, its metrics and command line,
and one table of the facts that differ between vLLM releases."""
