"""What stages are given to connect to Ray by, in tests."""

TOKEN = "6f" * 32  # of a cluster that wants one


def connected() -> None:
    """To the tests' cluster: the fixture `ray_cluster` is."""


def no_cluster() -> None:
    raise AssertionError("there is nothing to do for a cluster")
