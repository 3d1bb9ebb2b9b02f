"""Whether the files of a run are complete and unchanged."""
