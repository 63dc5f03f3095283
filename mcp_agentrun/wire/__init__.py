"""What server and runner send each other: frames, and typed messages in them. Copied into the runner's image."""
