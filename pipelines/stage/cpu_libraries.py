"""What a CPU's libraries read when they are loaded: for the driver and its workers, set before torch is imported.

They make a kernel for every shape and keep 1,024, each with memory of its own, and batches without padding have a new
shape at every step: a training in bf16 grew by 5 MB with each. A forward and its backward need about 40.

Threads of OpenMP that wait for each other keep their processors busy. Where these are shared, that keeps the one that
is waited for from running: beside six busy processes two threads of two processors encoded in 44.7 s what takes 16.5 s
so, and as much as before beside none.
"""

CPU_LIBRARIES = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",  # of oneDNN
    "LRU_CACHE_CAPACITY": "64",  # of what torch keeps in front of it
    "OMP_WAIT_POLICY": "passive",
}
