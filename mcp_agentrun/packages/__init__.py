"""The package policy, and the installer."""
