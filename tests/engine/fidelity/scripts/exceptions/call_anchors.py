class A:
    def m(self): raise LookupError("no such thing")

A().m(

)
