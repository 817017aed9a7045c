"""Says what the names say."""

from utils.names import getFoo


def main(names):
    return getFoo(names)
