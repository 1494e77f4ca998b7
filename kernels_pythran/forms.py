"""Forms of grouped affine codes, and dtypes of what is stored. Not compiled by itself: kernels import it.

`workbench.kernels.forms` has the same numbers for Python.
"""

# What a group stores besides its scale s: code 0's value, w = q·s + m; or a zero point z, w = (q − z)·s, which is a real
# number, or always 2^(bits−1), or one of the codes.
OFFSET = 0
ZERO = 1
FIXED = 2
WHOLE = 3

# In which dtype scales and offsets are stored.
SINGLE = 0
BRAIN = 1
HALF = 2
