"""From plan and observation to what is published: LoraAdapter status, LoraEndpoints, Events about changes."""
