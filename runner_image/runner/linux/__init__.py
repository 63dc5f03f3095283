"""The Linux calls that Python does not offer, by subject."""
