"""The parts of the score stage that run on the cluster: what happens to a chunk, and the pipeline over actors."""
