print(__name__, __doc__, __package__, __spec__)
if __name__ == "__main__":
    print("main")
