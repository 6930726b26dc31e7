"""Helpers outside the engine: data loading."""
