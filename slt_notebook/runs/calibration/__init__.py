"""Choice of step size, nbeta and gamma, with the evidence."""
