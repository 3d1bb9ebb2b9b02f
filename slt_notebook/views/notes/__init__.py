"""Notes on a run: W3C Web Annotations."""
