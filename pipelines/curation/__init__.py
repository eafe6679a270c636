"""The parts of the curate stage: rules, leaks between splits, and the count of every outcome."""
