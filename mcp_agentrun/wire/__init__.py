"""What server and runner say to each other: the frame codec and the messages. Standard library only, since the
runner's image has a copy.
"""
