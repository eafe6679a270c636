"""The one error a user can cause: what was found, what was expected, what to do; printed as it is."""


class UserError(ValueError):
    """Wrong usage or refused input: running the same command again will not help (exit code 2)."""
