"""Folders that hold a model, for teachers and students alike; only load.py imports torch.

find.py                 a folder, package:NAME, s3:// or hub id -> the local folder
inspect.py, name.py     what a folder holds and must hold; its hashes, and its NAME@12hex
load.py                 an encoder with every weight from its files; refusals in place of tracebacks
files.py                what a training leaves in its folder, by name
run_folder.py           models/NAME under the root while and after it is trained
models.py               the rows of the models table
"""
