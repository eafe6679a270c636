"""What a CPU's libraries read when they are loaded: for the driver and its workers, set before torch is imported.

They make a kernel for every shape and keep 1,024, each with memory of its own, and batches without padding have a new
shape at every step: a training in bf16 grew by 5 MB with each. A forward and its backward need about 40.

Threads of OpenMP that wait for each other look 300,000 times before they sleep. Where processors are shared, that keeps
the one that is waited for from running: beside six busy processes two threads on two processors encoded in 12.8 s what
takes 8.4 s with 3,000 looks. Training with two threads is as fast with 3,000 as before, and 12 % slower with none.
"""

CPU_LIBRARIES = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",  # of oneDNN
    "LRU_CACHE_CAPACITY": "64",  # of what torch keeps in front of it
    "GOMP_SPINCOUNT": "3000",  # of GNU's OpenMP, which torch brings
}
