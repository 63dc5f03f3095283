class A:
    import sys
    print("in body")
    sys.exit("from a class body")
