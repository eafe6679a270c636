"""Teachers: (query, passage) pairs in, raw scores out; and where a model's folder comes from.

    model_folders.resolve("BAAI/bge-reranker-v2-m3") -> folder     checkpoints.teacher_name(folder, ...) -> name@12hex
    cross_encoder.CrossEncoderTeacher(folder).score(...)     bi_encoder.BiEncoderTeacher(folder).score(...)

This package imports no torch: a driver can name a teacher without loading it.
"""

from pipelines.checkpoints.find import resolve
from pipelines.checkpoints.inspect import teacher_name, weights_sha256

__all__ = ["resolve", "teacher_name", "weights_sha256"]
