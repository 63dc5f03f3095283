"""What server and runner send each other: frames, and the typed messages in them. Standard library only, since the
runner's image has a copy.
"""
