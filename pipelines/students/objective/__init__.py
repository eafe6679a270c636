"""What the student learns: config.py (every term's fields, no torch), a module per term, their sum in registry.py."""
