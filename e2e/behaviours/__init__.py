"""What users are promised, each promise an end-to-end test: kubectl, a real API server, pods that run, and the operator
as a process under its own service account."""
