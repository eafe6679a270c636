"""Students: layer selection, losses, the batch plan, the token cache and one rank's training loop."""
