"""`python -m bench.floor.endswithparent PARENT MODULE ...`: runs a module in a process that ends with PARENT.

The kernel kills it when PARENT, which has started it, ends in whatever way (Linux, prctl). Decides nothing
else. Called by `cluster.py` for every node.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Bind this process to its parent, then be the module."""
    parent, module, *rest = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        sys.exit("the process that started this one is gone")
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
