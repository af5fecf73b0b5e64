"""What users are promised, on real nodes: `make test-real-cluster`; with USE_EXISTING_CLUSTER=1 on those of a user."""
