"""Occurrences of every bit pattern, from which all statistics of 16-bit weights follow exactly."""


#pythran export count_patterns(uint16[], int64[])
#pythran export count_patterns(uint32[], int64[])
def count_patterns(source, counts):
    """Add the occurrences of each 16-bit pattern to counts.

    A weight that is not finite is counted like any other: its exponent bits, all ones, give it away.

    Parameters
    ----------
    source : uint16 or uint32 [n]
        Bit patterns of the weights; of float32 the upper half counts, which is its bfloat16 cut short.
    counts : int64 [65536], added to
    """
    # One table is as fast as several: weights spread over enough patterns that additions seldom wait for each other.
    shift = 8 * (source.itemsize - 2)
    for i in range(source.size):
        counts[source[i] >> shift] += 1
