"""The zoo's `stdlib-mdlm`: a masked-diffusion language model of the Python standard library's source."""
