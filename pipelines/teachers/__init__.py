"""Teachers: (query, passage) pairs in, raw scores out.

    config.name_teacher(config) -> name@12hex, without torch     config.load_teacher(config).score(queries, passages)

A kind of teacher is a module with a `Teacher` (teacher.py), such as cross_encoder.py, and its line in config.KINDS.
"""
