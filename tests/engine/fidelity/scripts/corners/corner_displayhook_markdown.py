import sys
class A:
    def _repr_markdown_(self): return "# md"
    def _repr_html_(self): return "<b>"
    def __repr__(self): return "A()"
sys.displayhook(A())
import code
code.InteractiveInterpreter({"a": A()}).runsource("a")
