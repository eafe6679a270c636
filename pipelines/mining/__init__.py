"""The parts of mine: pairs, passages, and how negatives are drawn from what is ranked."""
