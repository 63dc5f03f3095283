"""What may be installed, and the container that installs it."""
