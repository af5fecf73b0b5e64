"""Real vLLM on CPU in pods of real nodes, with adapters from a real S3 server: `make test-cluster-vllm`."""
