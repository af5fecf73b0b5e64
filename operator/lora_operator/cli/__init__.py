"""The command line: `lora-operator run` and what else people type. Each command is a module with `add` and `main`."""
