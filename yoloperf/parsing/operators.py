"""What a kernel does, from its name, so that GPU generations compare although no kernel name is the same.

The names are the libraries' own: cuDNN and cuBLAS put the architecture first (maxwell_, volta_, turing_, ampere_,
sm80_, sm90_), then the operation; PyTorch's eager kernels carry the functor; Triton's list the operators they fuse.
That cuDNN's `stridedB` kernels compute data gradients and `stridedB_splitK` ones weight gradients was read off
public TensorFlow profiles, which give the operation beside the kernel. Kernels for Winograd and FFT convolutions
serve several directions: their direction is not in the name, and they count as `convolution`.
"""

import re
from functools import lru_cache

FORWARD = "convolution forward"
DATA = "convolution data gradient"
WEIGHT = "convolution weight gradient"
CONVOLUTION = "convolution"  # of a direction that the name does not tell
MATRIX = "matrix product"
BATCH_NORM = "batch norm"
ACTIVATION = "activation"
POOLING = "pooling"
OPTIMISER = "optimiser"
COPY = "copy"  # also changes of layout, concatenation and fills
REDUCTION = "reduction"
ELEMENTWISE = "elementwise"
OTHER = "other"
OPERATORS = (FORWARD, DATA, WEIGHT, CONVOLUTION, MATRIX, BATCH_NORM, ACTIVATION, POOLING, OPTIMISER, COPY, REDUCTION, ELEMENTWISE, OTHER)

_HEAD_CHARS = 400  # what a kernel does stands in front of its argument list
_ACTIVATIONS = r"relu|silu|sigmoid|gelu|mish|hardswish|hardtanh|softplus|swish|(?<!arc)tanh|softmax|(?<![a-z])elu(?![a-z])|glu"
_NORMS = r"batch_?norm|\bbn_(?:fw|bw)|welford|bnorm|(?:^|_)bn_"
_COPIES = (
    r"^\[?(?:cuda )?mem(?:cpy|set)|copy_device_to_device|(?:direct|float16|bfloat16|float8)_copy_kernel|catarraybatched|"
    r"nchwtonhwc|nhwctonchw|tonhwc|tonchw|transpose|swapdimension|fillfunctor|fill_kernel|3channel_kernel|to4kernel|convert_?tensor|tensorconversion|^(?:aten::)?(?:copy_|cat|"
    r"_to_copy|to|contiguous|clone|fill_|zero_|zeros|empty\w*|pin_memory|stack|new_zeros|new_empty|reshape|repeat|expand)$|::cat_|copy_kernel|reorder"
)
_MATRIX = (
    r"gemm|gemv|cublas|cutlass|nvjet|splitkreduce|wmma|mma_?sync|"
    r"^(?:aten::)?(?:addmm|mm|bmm|baddbmm|matmul|linear|einsum|addmv|mv|dot)(?:_?backward\d?)?$|^(?:triton_)?mm_"
)
# Tried in order; the first that is found in the name's head decides
_RULES: tuple[tuple[str, str], ...] = (
    (r"wgrad|stridedb_splitk|backpropfilter|bwd_?filter|backward_?filter|grad_?weight|conv\w*_weight_backward", WEIGHT),
    (r"dgrad|stridedb|backpropinput|bwd_?data|backward_?data|conv_depthwise\w*_backward|conv_transpose", DATA),
    (_COPIES, COPY),
    (
        r"multi_tensor_apply|adam|fused_sgd|sgd_|momentum|lamb_|amp_(?:non_finite|update)|amp_foreach|_foreach_|applygradient|optimizer",
        OPTIMISER,
    ),
    (_NORMS, BATCH_NORM),
    (r"conv\w*_?backward", CONVOLUTION),
    (
        r"fprop|(?:im|ex)plicit_convolve|precomputed_convolve|(?:cudnn|xmma)\w*relu|cudnn\w*filter1x1|conv2d_(?:grouped_)?direct|conv_depthwise|"
        r"mkldnn_convolution|thnn_conv|slow_conv|^aten::\w*conv(?:olution|\dd)\w*$|convolution_?forward|convforward|im2col|conv_fwd",
        FORWARD,
    ),
    (
        r"winograd|fft[12]d_|dse::|regular_fft|vector_fft|fft_|_fft|cgemm|flip_filter|mult_and_sum_complex|cudnn::\w*::?gemm::compute|"
        r"compute\w*offsetskernel|scalepackedtensor|generatewinograd|col2im|convolve|cudnn_convolution|first_layer",
        CONVOLUTION,
    ),
    (r"pool", POOLING),
    (_ACTIVATIONS, ACTIVATION),
    (_MATRIX, MATRIX),
    (r"convolution|conv2d", CONVOLUTION),
    (
        r"index|gather|scatter|sort|merge|nms|roi_?align|upsample|interpol|distribution|philox|random|dropout|arange|range_|unique|deviceselect|"
        r"devicescan|devicecompact|deviceradix|nonzero|embedding|layer_?norm|group_?norm|rowwisemoments|computefused|flash|fmha|attention|nccl|"
        r"topk|masked|where|_loss|loss_|criterion|im2grid|histogram|onehot|triu|tril",
        OTHER,
    ),
    (r"reduce|^(?:aten::)?(?:sum|mean|max|min|norm|linalg_vector_norm|any|all|prod|var|std|argmax|cumsum)$", REDUCTION),
    (
        r"elementwise|functor|pointwise|thrust::|unary|binary|parallel_for|^(?:aten::)?_?(?:add|sub|mul|div|pow|sqrt|rsqrt|exp|log|neg|abs|clamp\w*|"
        r"reciprocal|eq|ne|gt|lt|ge|le|minimum|maximum|addc\w+|lerp|sin|cos|atan|bitwise\w*|logical\w*|square|round|floor|remainder)_?$",
        ELEMENTWISE,
    ),
)
_COMPILED = tuple((re.compile(pattern), what) for pattern, what in _RULES)
_TRITON = re.compile(r"^triton_(poi|red|per|tem|mm|for|bmm|convolution\w*|split_scan|spl)_?")
_TRITON_WORDS = (
    (re.compile(r"convolution|conv2d"), CONVOLUTION),
    (re.compile(r"(?:^|_)(?:mm|bmm|addmm)(?:_|$)"), MATRIX),
)


@lru_cache(maxsize=1 << 16)
def operator(name: str) -> str | None:
    """One of OPERATORS, or None for a kernel whose name says nothing that is known."""
    head = name[:_HEAD_CHARS].lower()
    triton = _TRITON.match(head)
    if triton:
        return _fused(triton[1], head)
    for pattern, what in _COMPILED:
        if pattern.search(head):
            return what
    return None


def _fused(kind: str, head: str) -> str:
    """A Triton kernel of torch.compile: `kind` is its loop, the rest of the name lists the operators fused into it."""
    if kind in ("tem", "mm", "bmm") or kind.startswith("convolution"):
        return next((what for pattern, what in _TRITON_WORDS if pattern.search(head)), MATRIX)
    for pattern, what in ((_NORMS, BATCH_NORM), (r"pool", POOLING), (_ACTIVATIONS, ACTIVATION)):
        if re.search(pattern, head):
            return what
    if kind in ("red", "per", "split_scan", "spl"):
        return REDUCTION
    return COPY if re.search(r"fused(?:__to_copy|_clone|_cat|_copy|_view|_convolution)*(?:_\d+)?$", head) else ELEMENTWISE
