"""Kernels by what they do, across the generations of GPUs and libraries."""

import pytest

from yoloperf.parsing.operators import OPERATORS, operator

NAMES = {
    "maxwell_fp16_scudnn_fp16_128x64_relu_small_nn": "convolution forward",
    "volta_scudnn_128x64_relu_interior_nn_v1": "convolution forward",
    "turing_fp16_s1688cudnn_fp16_256x128_ldg8_relu_f2f_exp_small_nhwc_tn_v1": "convolution forward",
    "sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16": "convolution forward",
    "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128_32x4_nhwc_align8>": "convolution forward",
    "void cudnn::detail::implicit_convolve_sgemm<__half, __half, int=1024>(int)": "convolution forward",
    "maxwell_scudnn_128x128_stridedB_interior_nn": "convolution data gradient",
    "volta_fp16_s884cudnn_fp16_256x64_ldg8_dgrad_f2f_exp_small_nhwc2nchw_tt_v1": "convolution data gradient",
    "sm90_xmma_dgrad_implicit_gemm_indexed_bf16bf16": "convolution data gradient",
    "void cudnn::detail::dgrad_engine<float, int=128>(int)": "convolution data gradient",
    "maxwell_scudnn_128x128_stridedB_splitK_interior_nn": "convolution weight gradient",
    "turing_s1688cudnn_fp16_128x128_ldg8_wgrad_idx_exp_interior_nhwc_nt_v1": "convolution weight gradient",
    "sm80_xmma_wgrad_implicit_gemm_indexed_tf32f32": "convolution weight gradient",
    "void cudnn::cnn::wgrad2d_grouped_direct_kernel<float>(float)": "convolution weight gradient",
    "maxwell_scudnn_winograd_128x128_ldg1_ldg4_tile148n_nt": "convolution",
    "void fft2d_r2c_32x32<__half, bool=0>(float2*)": "convolution",
    "aten::convolution_backward": "convolution",
    "volta_sgemm_128x64_nt": "matrix product",
    "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_tn": "matrix product",
    "nvjet_hsh_128x256_64x4_1x2_h_bz_TNT": "matrix product",
    "void cutlass::Kernel2<cutlass_80_tensorop_s16816gemm_bf16>(Params)": "matrix product",
    "triton_mm": "matrix product",
    "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>(float)": "batch norm",
    "void at::native::batch_norm_backward_reduce_kernel<float>(float)": "batch norm",
    "triton_red_fused__native_batch_norm_legit_functional_3": "batch norm",
    "_ZN2at6native29vectorized_elementwise_kernelILi4EZZZNS0_26leaky_relu_backward_kernelERNS_14TensorIteratorE": "activation",
    "void at::native::vectorized_elementwise_kernel<4, at::native::silu_kernel(at::TensorIteratorBase&)>": "activation",
    "void at::native::max_pool_forward_nchw<float>(int)": "pooling",
    "void at::native::multi_tensor_apply_kernel<TensorListMetadata<2>, BinaryOpListAlphaFunctor<float>>(x)": "optimiser",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, MeanOps<float>>>(x)": "reduction",
    "[CUDA memcpy DtoH]": "copy",
    "Memcpy HtoD (Pinned -> Device)": "copy",
    "void cudnn::ops::nchwToNhwcKernel<float, float>(x)": "copy",
    "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>, at::detail::Array<char*, 3>>(x)": "elementwise",
    "triton_poi_fused_add_3": "elementwise",
    "void nms_kernel<float>(int, float)": "other",
    "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgs)": "other",
    "cuda_compute_flux(int, int*, float*)": None,
    "": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_by_its_name(name: str) -> None:
    assert operator(name) == NAMES[name]


def test_the_names_above_meet_every_operator() -> None:
    assert {*NAMES.values()} - {None} == {*OPERATORS}
