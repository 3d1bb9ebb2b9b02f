"""Sampling: from settings to a store of draws.  Only here torch meets Zarr."""
