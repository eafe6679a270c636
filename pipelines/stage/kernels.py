"""How many kernels a CPU's libraries keep: for the driver and its workers, set before torch multiplies.

They make one for every shape and keep 1,024, each with memory of its own, and batches without padding have a new shape
at every step: a training in bf16 grew by 5 MB with each. A forward and its backward need about 40.
"""

KEPT_KERNELS = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",  # of oneDNN
    "LRU_CACHE_CAPACITY": "64",  # of what torch keeps in front of it
}
