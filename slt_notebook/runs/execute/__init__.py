"""Workers, progress, lockstep evaluation, buffering of draws."""
