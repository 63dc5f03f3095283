open("/proc/version", "w")
