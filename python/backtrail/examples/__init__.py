"""Small programs to read and to run, each with `python -m backtrail.examples.<name>`."""
