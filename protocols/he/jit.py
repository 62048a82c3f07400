"""The two decorators of the kernel modules, typed: `kernel` (compiled, releases the GIL) and `vector_op` (LLVM
intrinsic).
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a numeric kernel on its first call; the machine code is cached on disk where that is possible.

    Never fastmath: the modular products are exact only because no operation is re-associated or contracted.
    """
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder to cache in is writable: compile in every process instead
        return cast(F, numba.njit(nogil=True)(function))


def vector_op(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declare an operation on 8-lane vectors by the LLVM instructions it stands for; numba supplies the first
    argument.
    """
    return cast(Callable[..., Any], intrinsic(function))
