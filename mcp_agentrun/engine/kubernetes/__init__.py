"""The engine for Kubernetes. Needs the extra ``kubernetes``."""
