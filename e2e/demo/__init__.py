"""`make demo`: the whole system on this machine, shown step by step: placed, lost, repaired, rolled out, refused.

`python -m e2e.demo [--keep] [--engine sim|vllm]`, and `python -m e2e.demo down` for what `--keep` left running.
"""
