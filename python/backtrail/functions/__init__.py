"""Functions over tensors, one file a family; `functional` gathers them."""
