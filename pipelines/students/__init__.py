"""Students, of distill: what a student is, what it learns, from which data, and how it is trained.

    config.py        every number of a training, the loss terms' too; read without torch
    source.py        the larger encoder as its files describe it: what can be asked of it, said without torch
    initialise.py    the untrained student: layers of that encoder; heads.py: what stands on it
    objective/       the loss: a module per term, summed in registry.py
    data/            a curated version as token ids (tokenise.py, token_cache.py) with a teacher's vectors
                     (teacher_vectors.py), cut into steps (plan.py); a sample of its dev split (dev_set.py)
    training/        one rank's loop over the steps, the choice among them (choosing.py), its sinks, and Ray Train
                     around it (on_ray.py)

`distill.train` goes through it once: initialise, build the cache, train. That is one training stage. Several in a row
are a list of TrainingConfig in config.py, each with its versions, and a loop in `distill.train` around `train_on_ray`,
each with a work folder of its own, whose `untrained` is the student that the stage before has trained.
"""
