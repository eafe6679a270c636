"""What a training leaves in its folder, by name; read by the loop, which knows of no tables.

run_folder.py has what else stands there while it trains.
"""

MODEL, METRICS = "model", "metrics.jsonl"
TENSORBOARD = "tensorboard"  # a folder: what TensorBoard shows of the metrics
OBJECTIVE = "objective.safetensors"  # what the objective trained beside the student, where it trained anything
STATE = "state.pt"  # of a checkpoint: all but the model itself
