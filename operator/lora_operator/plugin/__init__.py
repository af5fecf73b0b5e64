"""`kubectl lora`: what people ask of adapters and pods with their own rights, and what they have the operator do.

One module per command, each imported only when it is used; `arguments` is the whole command line.
"""
