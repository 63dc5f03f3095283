import traceback
for code in ["x = = 1", "def f(:\n pass", "for x in", "class", "lambda x=: 1", "a b", "if x = 1: pass", "x +", "(1, 2",
             "[1, 2)", "'abc", '"""abc', "print 'x'", "1 = x", "f() = 1", "x: int: str", "return 1", "async x", "{1: 2, 3}",
             "from x import", "import a.b as c.d", "def f(a, a): pass", "f(**k, *a)", "with open('x') as 1: pass", "0777", "1__0",
             "x = 5L", "try:\n  x\nfinally", "match x:\n case 1 | y: pass\n case {**a, 'b': 1}: pass", "f'{a b}'", "f'{'", "f'{x!z}'",
             "nonlocal x", "del f()", "a, b += 1", "*a", "not = 1", "raise x from", "global x; x = 1; global x", "\ttry", " x = 1", "é = ß€"]:
    try:
        compile(code, "<case>", "exec")
    except SyntaxError as e:
        print(repr(code), type(e).__name__, e.args)
        traceback.print_exception(e)
    else:
        print(repr(code), "compiles")
