"""The only effects on pods: files, loads and unloads, finalizers, readiness gates."""
