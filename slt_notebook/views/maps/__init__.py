"""Matrices, embeddings and component grids."""
