import unittest, io, re
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(1, 2)
out = io.StringIO()
unittest.TextTestRunner(stream=out).run(unittest.defaultTestLoader.loadTestsFromTestCase(T))
print(re.sub(r"in [\d.]+s", "in Xs", out.getvalue()))
