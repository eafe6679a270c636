"""What ingest and mine read, from a path that was given to rows in the tables, in this order:

find_files.py        a path to what is read: files, folders (hub_folders.py: Hugging Face's), Delta tables
input_files.py       one of these, and how it is opened
formats.py           told by its content: JSON Lines and Parquet (raw_rows.py), delimited.py, arrow_files.py
layouts.py           a raw row's columns and their roles: checked texts, or the reasons against it
accounts.py          what became of each row
spill.py             the rows in order, on disk
append_triplets.py   what is new of them, into the tables

plain_texts.py       a column of plain texts, without triplets
beir.py              a BEIR folder: texts (records.py) and judgements (qrels.py)
"""
