"""Everything a user can get wrong, and the exit code of each.

    TnaError                 1   never raised itself
    ├── UsageError           2   the command line, or a call of the library, does not make sense
    ├── RecipeError          3   a recipe, overlay or override is wrong
    ├── DataError            4   a data set is missing, damaged, does not fit, or is not what a run learned from
    ├── DeviceError          5   the device or precision asked for is not there, or has too little memory
    ├── ToleranceError       6   a number or effect is not as it should be, or none is there to judge
    ├── DivergedError        7   training produced NaN or infinite values, or a dead network
    ├── FileFormatError      8   a checkpoint or packed file is damaged, or of another version
    ├── NetworkError         8   a network computes what no packed file can say
    ├── StorageError         8   a file could not be written: disk full, no permission
    ├── RunBusyError        75   another process is training this run; try again later
    └── Stopped             75   training was asked to stop; the same command goes on
        └── Interrupted    130   by Ctrl-C

Anything else that escapes is a bug: it keeps its traceback and exits with 1.
"""

from __future__ import annotations


class TnaError(Exception):
    """A problem that is explained in full by its message.

    The message says what was wrong, where, what is allowed and what to do next; it is shown without a traceback.
    """

    exit_code = 1


class UsageError(TnaError):
    """The command line, or a call of the library, does not make sense."""

    exit_code = 2


class RecipeError(TnaError):
    """A recipe, overlay or override is wrong."""

    exit_code = 3


class DataError(TnaError):
    """A data set is missing, damaged, does not fit what was asked for, or is not the one that a run learned from."""

    exit_code = 4


class DeviceError(TnaError):
    """The device or precision that was asked for is not there, or the device has too little memory."""

    exit_code = 5


class ToleranceError(TnaError):
    """A number lies outside its tolerance or below what was asked, an effect does not hold, or none could be judged."""

    exit_code = 6


class DivergedError(TnaError):
    """Training produced NaN or infinite values, or a network that can no longer learn."""

    exit_code = 7


class FileFormatError(TnaError):
    """A checkpoint or packed file is damaged, not ours, or of a version this program does not read."""

    exit_code = 8


class NetworkError(TnaError):
    """A network computes what no packed file can say, or its packed form does not compute the same."""

    exit_code = 8


class StorageError(TnaError):
    """A file could not be written: the disk is full or the place is not writable."""

    exit_code = 8


class RunBusyError(TnaError):
    """Another process is training this run."""

    exit_code = 75


class Stopped(TnaError):  # noqa: N818 - asked for, not an error
    """Training was asked to stop, saved its state, and can go on with the same command."""

    exit_code = 75


class Interrupted(Stopped):
    """The same, asked for with Ctrl-C."""

    exit_code = 130


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there is too little memory, as Python, NumPy, PyTorch's allocators and CUDA's libraries say it.

    By its text, as most of them are plain RuntimeErrors, and torch is not imported for it.
    """
    words = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "error_out_of_memory")
    text = str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(word in text for word in words))
