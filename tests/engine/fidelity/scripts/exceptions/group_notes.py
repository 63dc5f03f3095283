g = ExceptionGroup("g", [ValueError(1)])
g.add_note("a note")
g.exceptions[0].add_note("inner note")
raise g
