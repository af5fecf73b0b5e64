"""What operator and agent say to each other: shared types of the agent's HTTP API."""
