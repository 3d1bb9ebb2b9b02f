"""Where draws become a store: torch meets Zarr in this room and nowhere else."""
