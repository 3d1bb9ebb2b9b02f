"""Reading finished or running runs and sweeps as labelled xarray trees; no torch."""
