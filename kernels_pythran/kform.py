"""The numbers by which GGML's block formats differ: places in a form, int64 [12]. Not compiled by itself: kernels import it.

`workbench.kernels.forms.BlockForm` has the same for Python.
"""

GROUP_SIZE = 0  # weights a group
GROUPS = 1  # groups a block
ZERO_CODE = 2  # the code that means zero
LOWEST_CODE = 3  # lowest code
HIGHEST_CODE = 4  # highest code
MINIMUM_KIND = 5  # whether there is a minimum, see below
LEAST_SCALE = 6  # least integer scale
GREATEST_SCALE = 7  # greatest integer scale
ADDED = 8  # what is added to integer scales in the file
NBYTES = 9  # bytes a block
FACTOR_BYTE = 10  # first byte of the float16 factor
MINIMUM_BYTE = 11  # and of the minimum's, −1 where there is none

# Kinds of minimum.
NO_MINIMUM = 0
MINIMUM_BELOW_ZERO = 1
ANY_MINIMUM = 2
