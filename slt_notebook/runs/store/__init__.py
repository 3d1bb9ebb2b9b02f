"""Writing runs and sweeps as Zarr stores."""
