"""One page that shows what the teacher said, what was lost, and what the model is worth."""
