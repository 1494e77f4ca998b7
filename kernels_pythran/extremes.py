"""The least and the greatest of some weights. Not compiled by itself: kernels import it and Pythran inlines it."""

import numpy as np


def find_extremes(signed, size, extremes):
    """Bit patterns of the extremes of float32 weights, all finite, seen as int32; into extremes, int32 [2].

    They are taken over integers with the order of the floats, because minima of floats do not vectorise.
    """
    least = np.int32(0x7FFFFFFF)
    most = np.int32(-0x7FFFFFFF)
    for k in range(size):
        key = signed[k] ^ ((signed[k] >> np.int32(31)) & np.int32(0x7FFFFFFF))
        least = min(least, key)
        most = max(most, key)
    extremes[0] = least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))
    extremes[1] = most ^ ((most >> np.int32(31)) & np.int32(0x7FFFFFFF))
