import unittest

from app.responses import reject


class Responses(unittest.TestCase):
    def test_text(self):
        self.assertEqual(reject("no"), "Error: no")
