"""Numerics on plain numpy arrays: moments, standard errors, effective sample sizes."""
