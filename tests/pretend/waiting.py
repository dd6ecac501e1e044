"""Which operations make the host wait for an accelerator.

Sources: the documentation of `torch.cuda.set_sync_debug_mode`, whose modes warn of such operations or refuse them; its
test `test_sync_warning` in test/test_torch.py of PyTorch, which lists calls that wait and calls that don't; and
https://docs.pytorch.org/docs/stable/notes/cuda.html#asynchronous-execution. The size of a result that depends on values
has to be read before the result can be allocated. Matrix decompositions read whether they have succeeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten

_ALWAYS = frozenset(
    {
        # They read values: item(), a tensor as a condition, torch.equal, torch.allclose.
        aten._local_scalar_dense,
        aten.equal,
        aten.allclose,
        # The size of their result depends on values.
        aten.nonzero,
        aten.masked_select,
        aten.bincount,
        aten._unique,
        aten._unique2,
        aten.unique_dim,
        aten.unique_consecutive,
        aten.unique_dim_consecutive,
        # They check on the host whether they have succeeded. Those that end in _ex leave that to the caller, and
        # their checking forms call _linalg_check_errors.
        aten._linalg_check_errors,
        aten._linalg_eigh,
        aten.linalg_eig,
        aten._linalg_eigvals,
        aten._linalg_svd,
        aten.linalg_lstsq,
        aten.linalg_pinv,
        aten.linalg_matrix_exp,
    }
)
# Arguments whose values they read if they are tensors: ends of a range, and standard deviations, which must be ≥ 0.
_READ_ARGUMENTS = {aten.linspace: slice(2), aten.logspace: slice(2), aten.normal: slice(1, 2)}
_INDEXING = frozenset({aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index_put})


def waits_for(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether this call would wait on an accelerator, apart from copies."""
    packet = func.overloadpacket
    if packet in _ALWAYS:
        return True
    if packet is aten.repeat_interleave:
        return kwargs.get("output_size") is None
    if packet is aten.multinomial:  # it looks for negative and infinite probabilities
        draws, replacement = args[1], args[2] if len(args) > 2 else kwargs.get("replacement", False)
        return not replacement or draws == 1
    if packet in _READ_ARGUMENTS:
        return any(isinstance(arg, Tensor) and arg.device.type != "cpu" for arg in args[_READ_ARGUMENTS[packet]])
    if packet is aten.histc:  # without limits, it looks for the smallest and the largest value
        low, high = (args[i] if len(args) > i else kwargs.get(name, 0) for i, name in ((2, "min"), (3, "max")))
        return bool(low == high)
    return packet in _INDEXING and _reads_mask(args, kwargs)


def _reads_mask(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an index on the device is a mask, whose true entries have to be counted. Filling by a mask needs none."""
    masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8) and i.device.type != "cpu"]
    values = args[2] if len(args) > 2 else kwargs.get("values")
    fills = isinstance(values, Tensor) and values.numel() == 1 and values.device.type == "cpu" and len(masks) == 1
    return bool(masks) and not fills


def allows_indices_on_cpu(func: OpOverload) -> bool:
    """Whether its indices may be on the CPU: torch copies them."""
    return func.overloadpacket in _INDEXING


def allows_scalars_on_cpu(func: OpOverload) -> bool:
    """Whether a tensor () on the CPU may stand for a number: pointwise, and where one value is written."""
    return torch.Tag.pointwise in func.tags or func.overloadpacket in _WRITES_ONE_VALUE


_WRITES_ONE_VALUE = _INDEXING | {
    aten.masked_fill,
    aten.masked_fill_,
    aten.fill,
    aten.fill_,
    aten.index_fill,
    aten.index_fill_,
}
