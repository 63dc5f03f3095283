print(~True)
