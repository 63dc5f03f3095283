"""Sandboxes over plain HTTP: AgentRun's API, and one of our own."""
