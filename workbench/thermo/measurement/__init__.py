"""What is measured of the weights, in one pass, and remembered: profiles, statistics, samples of rows."""
