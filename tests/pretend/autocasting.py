"""Autocast on the pretend device, with the lists of operations that torch documents for CUDA.

Source: https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior. Other than torch's, it keeps no copies
of cast parameters: a parameter that is read twice is cast twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map

_LOWER = """
addbmm addmm addmv addr baddbmm bmm chain_matmul linalg_multi_dot conv1d conv2d conv3d conv_transpose1d conv_transpose2d
conv_transpose3d convolution _convolution gru_cell linalg_vecdot linear lstm_cell matmul mm mv prelu rnn_relu_cell
rnn_tanh_cell scaled_dot_product_attention
"""
_FLOAT32 = """
acos asin binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss cosine_similarity cumprod cumsum dist
erfinv exp expm1 group_norm hinge_embedding_loss huber_loss kl_div l1_loss layer_norm log log10 log1p log2 log_softmax
logsumexp margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss native_layer_norm nll_loss nll_loss2d
norm pdist poisson_nll_loss pow prod reciprocal renorm rsqrt sinh smooth_l1_loss soft_margin_loss softmax softplus sum
tan triplet_margin_loss
"""
_WIDEST = """
addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_put scatter_add stack tensordot
"""
_KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def register(library: torch.library.Library, all_operations: torch.library.Library) -> None:
    """Registers all of these operations, and that the others run as they are."""
    all_operations.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, choose in ((_LOWER, _lower), (_FLOAT32, _float32), (_WIDEST, _widest)):
        for name in names.split():
            packet = getattr(torch.ops.aten, name)
            for overload in packet.overloads():
                op = getattr(packet, overload)
                if not op._schema.is_mutable and "dtype" not in {a.name for a in op._schema.arguments}:
                    library.impl(op.name().removeprefix("aten::"), _kernel(op, choose), "AutocastPrivateUse1")


def _kernel(op: OpOverload, choose: Callable[[list[Tensor]], torch.dtype]) -> Callable[..., Any]:
    """The operation on arguments of another type."""

    def kernel(*args: Any, **kwargs: Any) -> Any:
        dtype = choose([leaf for leaf in tree_leaves((args, kwargs)) if _castable(leaf)])
        with torch._C._ExcludeDispatchKeyGuard(_KEYS):
            args, kwargs = tree_map(lambda leaf: leaf.to(dtype) if _castable(leaf) else leaf, (args, kwargs))
            return op(*args, **kwargs)

    return kernel


def _castable(leaf: object) -> bool:
    return (
        isinstance(leaf, Tensor)
        and leaf.is_floating_point()
        and leaf.device.type == "pretend"
        and leaf.dtype != torch.float64
    )


def _lower(tensors: list[Tensor]) -> torch.dtype:
    del tensors
    return torch.get_autocast_dtype("pretend")


def _float32(tensors: list[Tensor]) -> torch.dtype:
    del tensors
    return torch.float32


def _widest(tensors: list[Tensor]) -> torch.dtype:
    """float32 if any is float32."""
    dtypes = {tensor.dtype for tensor in tensors}
    return torch.float32 if torch.float32 in dtypes or len(dtypes) != 1 else dtypes.pop()
