"""The parts of the publish stage: the manifest and the model card."""
