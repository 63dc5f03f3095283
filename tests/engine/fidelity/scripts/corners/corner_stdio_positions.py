import sys
for s in (sys.stdin, sys.stdout, sys.stderr):
    print(s.seekable(), s.readable(), s.writable(), s.isatty(), s.newlines, s.closed)
    for what in (s.tell, lambda: s.seek(0), s.read, s.detach if s is None else s.fileno):
        try: print(repr(what()))
        except Exception as e: print(type(e).__name__, e)
