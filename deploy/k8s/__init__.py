"""Kubernetes manifests, rendered from the models file by pure functions, and the rules they must hold to."""
