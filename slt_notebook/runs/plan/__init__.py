"""Tasks, partition of the work and memory, before a run starts."""
