import ctypes
libc = ctypes.CDLL(None)
libc.printf(b"%d and %s\n", 42, b"text")
libc.fflush(None)
