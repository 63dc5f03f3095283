import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(1, 1)
suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)
print(unittest.TextTestRunner(stream=__import__("io").StringIO()).run(suite).wasSuccessful())
