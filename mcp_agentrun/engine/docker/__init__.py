"""Docker, and engines with the same API."""
