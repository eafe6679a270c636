"""Folders that hold a model: found, fetched, checked, hashed, named and loaded, for teachers and students alike."""
