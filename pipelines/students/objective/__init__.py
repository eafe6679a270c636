"""What the student learns: one module per term, and how a step adds them up."""
