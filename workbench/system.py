"""What differs between operating systems: files read and written by position, locks, room on the disk, memory, cores.

Nothing else imports ``fcntl`` or ``mmap``, reads or writes by position, or asks which system this is; only
`workbench.kernels` asks for the processor. Linux and macOS are known here.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

MemoryMap = mmap.mmap
"""The bytes of a file as memory."""


def open_for_reading(path: Path) -> int:
    """Open a file for reads by position; a pipe or a device is not waited for.

    Returns
    -------
    int
        Its descriptor.
    """
    # Opening a FIFO would block until somebody writes to it; O_NONBLOCK changes nothing for a file.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def open_for_writing(path: Path) -> int:
    """Open a file that exists for writes by position; returns its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CLOEXEC)


def close(file: int) -> None:
    """Close what `open_for_reading` or `open_for_writing` opened."""
    os.close(file)


def read_at(file: int, buffer: memoryview, offset: int) -> int:
    """Fill a buffer, or the first part of it, from a position of an open file; returns how many bytes, 0 at its end."""
    return os.preadv(file, [buffer], offset)


def write_at(file: int, values: NDArray[Any], offset: int) -> None:
    """Write all bytes of an array to a position of an open file."""
    import numpy as np  # importing the package stays light

    rest = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    while len(rest):
        count = os.pwrite(file, rest, offset)
        offset, rest = offset + count, rest[count:]


def sync(file: int) -> None:
    """Have what was written to an open file put on the disk."""
    os.fsync(file)


def map_for_reading(file: int, size: int) -> MemoryMap:
    """A read-only memory map of an open file."""
    return mmap.mmap(file, size, access=mmap.ACCESS_READ)


def status_of(file: int) -> os.stat_result:
    """Size, times and kind of an open file."""
    return os.fstat(file)


def is_regular(status: os.stat_result) -> bool:
    """Whether this is a file, and no folder, pipe or device."""
    return stat.S_ISREG(status.st_mode)


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What is another for another file, or for the same one once it was written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def reserve(file: IO[bytes], size: int) -> None:
    """Give a file that is open for writing a size, and its room on the disk where the system can."""
    file.truncate(size)
    if hasattr(os, "posix_fallocate"):  # not on macOS: there a full disk shows only while writing
        os.posix_fallocate(file.fileno(), 0, size)


def release(file: int, offset: int = 0, size: int = 0) -> None:
    """Let the memory go that holds a part of an open file, or all of it; what is on the disk stays there."""
    if hasattr(os, "posix_fadvise"):  # macOS has not
        os.posix_fadvise(file, offset, size, os.POSIX_FADV_DONTNEED)


def lock(file: IO[str]) -> bool:
    """Lock an open file against other processes until it is closed; False where one has locked it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def replace_file(path: Path, new: Path) -> None:
    """Put the file `new` at `path`, in one step, in the place of what may be there."""
    new.replace(path)


def rename_folder(path: Path, new: Path) -> None:
    """Give a folder another name, which is not taken, in one step."""
    path.rename(new)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of a folder."""
    return shutil.disk_usage(folder).free


def cache_folder(program: str) -> Path:
    """Where a program keeps what it can make again: under ``XDG_CACHE_HOME`` if set, else where the system has it."""
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root) / program
    match sys.platform:
        case "darwin":
            return Path.home() / "Library" / "Caches" / program
        case "win32":
            return Path(os.environ.get("LOCALAPPDATA", Path.home())) / program / "Cache"
        case _:
            return Path.home() / ".cache" / program


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS does not tell which


def load_average() -> float:
    """Processes that want to run, on average over the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process in bytes; 0 where the system does not tell (not Linux)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0
