"""Real vLLM on CPU: installs a release into its own environment, runs it on loopback, runs the contract suite on it.

python -m e2e.vllm_cpu install|run|test --release 0.32.0
"""
