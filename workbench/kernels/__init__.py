"""The numeric kernels: compiled by Pythran where they could be, else the same in NumPy.

`kernels_pythran` has the sources of the compiled ones, `workbench.kernels.portable` their twins in NumPy.
"""

from workbench.kernels.forms import Form, Storage
from workbench.kernels.loading import Kernels, KernelWarning, load_kernels, load_portable

__all__ = ["Form", "KernelWarning", "Kernels", "Storage", "load_kernels", "load_portable"]
