"""The numeric kernels of ArrowQuant Workbench, in the subset of Python that Pythran compiles.

Installed, each module here is a native extension. `workbench.kernels.loading` decides whether it can be used; nothing
else imports this package.
"""
