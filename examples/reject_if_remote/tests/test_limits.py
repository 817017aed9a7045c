import unittest

from app import limits


class Limits(unittest.TestCase):
    def test_values(self):
        self.assertEqual(limits.STATUS_OK, 200)
        self.assertEqual(limits.STATUS_FORBIDDEN, 403)
        self.assertEqual(limits.MAX_HOPS, 3)
