"""Ops of libraries: compiling one, loading it, and publishing its ops."""
