"""The parts of ingest and mine: files of any known format to checked rows, and their way into the tables."""
