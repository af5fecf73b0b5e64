"""vLLM's dynamic LoRA contract as cases that run against any server: the simulator, or real vLLM on CPU.

`cases/` holds the cases, `target` what they run against, `make_adapters` writes `adapters/` and `model/` with the
real peft.
"""
