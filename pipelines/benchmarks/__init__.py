"""What is compared with what, in one run each: `python -m jobs bench NAME`."""
