"""Who asks: tokens of a file (for development), of an OpenID provider, or of Kubernetes."""
