"""A private Python for AI agents, in a container on your own machine."""
