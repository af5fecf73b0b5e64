"""The LoraAdapter resource: pydantic models of what users write and of what the operator reports, and the CRD made
from them. `v1alpha1` is the module to import; the others are its parts."""
