age = int(input("How old? "))
