try:
    1 / 0
finally:
    print("finally")
    undefined_name
