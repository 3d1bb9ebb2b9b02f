"""Parts of `python -m tests.bench`: what is timed, peers, the machine, tables."""
