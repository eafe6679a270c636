"""Rows of a table through actors into a table, each exactly once: plan, stream, commit."""
