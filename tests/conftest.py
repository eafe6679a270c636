"""What must be set before torch, transformers or ray are imported: no network, one thread, a quiet Ray."""

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    RAY_AUTH_MODE="disabled",  # Ray's default writes a token file into the home folder
    RAY_USAGE_STATS_ENABLED="0",
    RAY_TRAIN_V2_ENABLED="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
