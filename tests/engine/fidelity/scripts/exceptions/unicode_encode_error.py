"é日本".encode("ascii")
