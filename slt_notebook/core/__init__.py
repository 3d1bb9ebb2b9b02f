"""Torch only: positions, potentials, kernels, metrics, streams and the chain loop.

Nothing here knows of files, xarray or Hugging Face.  The chain axis is always first.
"""
