"""The running model: its modules, the weights that they hold, and the time in a call."""
