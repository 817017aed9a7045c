import unittest

from app.loopback import is_loopback


class IsLoopback(unittest.TestCase):
    def test_addresses(self):
        self.assertTrue(is_loopback("127.0.0.1"))
        self.assertTrue(is_loopback("127.8.8.8"))
        self.assertFalse(is_loopback("10.0.0.1"))
        self.assertFalse(is_loopback("1127.0.0.1"))
