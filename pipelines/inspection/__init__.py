"""Asking what is there: what moved between versions, what made them, whether a model can be made again."""
