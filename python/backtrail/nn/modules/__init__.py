"""The modules, one file a family."""
