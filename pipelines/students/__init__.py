"""Students, of distill: what a student is, what it learns, from which data, and how it is trained.

    config.py, training_config.py   every number: of the student and its stages, of one training; read without torch
    checks.py        what a training cannot do, refused before Ray starts
    source.py        the larger encoder as its files describe it: what can be asked of it, said without torch
    stages.py        the training stages of a model, and how the student of one becomes the start of the next
    initialise.py    the untrained student: layers of that encoder; heads.py: what stands on it
    objective/       the loss: a module per term, summed in registry.py
    data/            a curated version as token ids (tokenise.py, token_cache.py) with a teacher's vectors
                     (teacher_vectors.py), cut into steps (plan.py); a sample of its dev split (dev_set.py)
    training/        one rank's loop over the steps, the choice among them (choosing.py), its sinks, and Ray Train
                     around it (on_ray.py)

`distill.train` initialises once, then for each training stage builds its cache and trains: on its own version, by its
own numbers, in its own work folder, whose `untrained` is the student that the stage before has trained.
"""
