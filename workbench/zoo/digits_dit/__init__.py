"""The zoo's `digits-dit`: a class-conditional diffusion transformer for 8×8 handwritten digits."""
