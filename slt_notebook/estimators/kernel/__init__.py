"""Loss kernels, embeddings of them, and their agreement with known structure."""
