# The suite runs in processes of its own, see test_suite.py: Triton decides on import whether kernels are interpreted.
import os

collect_ignore = [] if "SPECENHANCE_KERNEL_DEVICE" in os.environ else ["suite"]
