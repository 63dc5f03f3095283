class A:
    # nothing but a comment
