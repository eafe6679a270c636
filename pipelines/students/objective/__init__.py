"""What the student learns: a module per term, their sum in registry.py; their fields stand in training_config.py."""
