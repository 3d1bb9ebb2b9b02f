"""Fast forms of the update rules, each equal to the reference kernel for the same noise."""
