"""From LoraAdapter resources and what their sources hold to the adapters that should be served. Pure."""
