"""The most memory taken for a while: what the allocator gave out, on the GPU or in this process.

Resident memory would tell less: a process keeps what it freed, so that a step may take nothing more of the kernel.
"""

import ctypes
import threading

import psutil
import torch


class _Mallinfo2(ctypes.Structure):
    """What glibc tells of its heap (mallinfo(3)), in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    )


def allocated() -> int:
    """Bytes that this process has been given and has not freed; its resident memory where the libc does not tell."""
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return psutil.Process().memory_info().rss
    tell.restype = _Mallinfo2
    found = tell()
    return found.uordblks + found.hblkhd


class PeakMemory:
    """The most memory taken while it is open, above what was taken before. In this process it is sampled."""

    bytes = 0

    def __enter__(self) -> "PeakMemory":
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
            return self
        self._ended, self._before = threading.Event(), allocated()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(0.001):
            self.bytes = max(self.bytes, allocated() - self._before)

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated() - self._before
            return
        self._ended.set()
        self._sampler.join()
        self.bytes = max(self.bytes, allocated() - self._before)
