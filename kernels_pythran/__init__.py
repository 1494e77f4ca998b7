"""The numeric kernels of ArrowQuant Workbench, in the subset of Python that Pythran compiles.

Installed, each module here is a native extension. `workbench.backend` decides whether it can be used; nothing
else imports this package.
"""
