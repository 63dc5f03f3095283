"""What runs inside the container: supervisor (PID 1), zygote and workers, or the package installer."""
