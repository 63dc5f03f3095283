import sys
sys.settrace(lambda frame, event, arg: None)
sys.exit(3)
