import codecs, sys
print(b"\xff\xfeabc".decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape"), codecs.lookup("utf8").name)
sys.stdout.reconfigure(errors="backslashreplace"); print("\ud800 \udcff")
sys.stdout.reconfigure(errors="surrogateescape"); print("\udcff")
sys.stdout.reconfigure(encoding="ascii", errors="xmlcharrefreplace"); print("é€")
sys.stdout.reconfigure(encoding="utf-16"); print("x")
sys.stdout.reconfigure(encoding="utf-8", errors="strict")
codecs.register_error("mine", lambda e: ("?", e.end)); print("é".encode("ascii", "mine"))
"abc".encode("no-such-codec")
