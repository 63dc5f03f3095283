import sys
try:
    try:
        sys.exit(4)
    finally:
        print("cleanup")
except SystemExit as e:
    print("caught", e.code)
    raise SystemExit(e.code + 1) from ValueError("cause")
