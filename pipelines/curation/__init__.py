"""The parts of the curate stage: rules, scored rows, texts of evaluation sets, and the count of every outcome."""
