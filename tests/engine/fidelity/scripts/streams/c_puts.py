import ctypes
libc = ctypes.CDLL(None)
print("python")
libc.puts(b"from C")
libc.fflush(None)
print("python again")
