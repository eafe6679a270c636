"""What the training reads and when: the token cache, the batch plan and its schedule."""
