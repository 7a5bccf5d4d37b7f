"""Memory that one step of work frees is kept for the next one."""

import ctypes
import os

# Parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the C library keep large freed blocks instead of giving them back to the kernel; whether it will.

    glibc maps every block of 32 MB or more anew, so each activation of a large image costs a page fault and a page of zeros
    for every 4 KiB, in every pass. With blocks kept on the heap, a step of the 3D WGAN-GP at 64^3 took 0.75 to 0.8 of the time
    and one of r3 at 128 pixels 0.45 (benchmarks/README.md), for up to a fifth more memory at the peak.

    It holds for the whole process. A process whose user has tuned malloc by its environment (`MALLOC_...`) is left alone, and so
    is one with another C library.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
