"""Docker, and whatever else speaks its API, as an engine."""
