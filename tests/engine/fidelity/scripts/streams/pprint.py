import pprint
pprint.pprint({"b": list(range(30)), "a": {"nested": "x" * 70}})
