import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(1, 1)
    @unittest.skip("why")
    def test_b(self): pass
    @unittest.expectedFailure
    def test_c(self): self.assertEqual(1, 2)
if __name__ == "__main__":
    unittest.main(argv=["prog", "-q"], exit=False, testRunner=unittest.TextTestRunner(open("/dev/null", "w")))
    print(unittest.TestLoader().loadTestsFromName("__main__.T").countTestCases())
