"""A kernel of the interpreter that runs this program, whatever kernels are installed on the machine.

A `python3` kernel in a user's home shadows the environment's own, and would run notebooks without vlpnb.
"""

import sys

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager


class ThisPython(AsyncKernelManager):
    """A kernel manager with one kernel: IPython on `sys.executable`."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command that starts the kernel."""
        # the kernel's warning that it listens on the loopback interface would come with every notebook
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")
