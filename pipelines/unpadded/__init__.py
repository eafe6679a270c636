"""Encoders without padding: texts laid end to end, each attending to itself alone. Knows no students and no teachers.

layout.py      where each text lies, and which of them attention takes together
attention.py   attention over such a layout: by matrix products, in blocks of a window, or by a GPU's own kernel
forward.py     a transformers encoder, or a sentence-transformers model, called so
"""
