"""The parts of the evaluate stage: what is searched, by which systems, and how they compare."""
