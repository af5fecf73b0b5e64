"""What the cluster gets to know: a LoraAdapter for each owner and base model, and what the operator says of it."""
