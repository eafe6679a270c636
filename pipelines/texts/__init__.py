"""What a text is, whatever table it stands in: its id, its split, its place in a batch of tokens."""
