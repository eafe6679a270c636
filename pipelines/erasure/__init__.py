"""People who leave: their rows out of every table and version, and who was trained on them."""
