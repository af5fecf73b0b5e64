"""What a person can choose: settings as flags and environment variables, and the operator's own."""
