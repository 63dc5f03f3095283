import code
i = code.InteractiveInterpreter({"a": 1})
i.runsource("a + 1"); i.runsource("1 / 0"); i.runsource("b c")
