// What each operation costs: COST_NAME is its floating-point operations, then the bytes that it
// must read and write, in terms of its parameters in kernels/ops.def. SPDX-License-Identifier: MIT
//
// A is the bytes of an activation, F those of a float; a multiply-add counts as two operations.
// Counts of elementwise operations are rough, as memory limits them. An array that caches keep
// counts once.
#ifndef DIT_OP_COSTS_H
#define DIT_OP_COSTS_H

// clang-format off
#define COST_linear                     2 * R * I * O, A * (R * I + O * I + R * O)
#define COST_linear_gelu                2 * R * I * O, A * (R * I + O * I + (pre ? 2 : 1) * R * O)
#define COST_linear_backward_input      2 * R * I * O, A * (R * O + O * I + R * I)
#define COST_linear_backward_input_gelu 2 * R * I * O, A * (R * O + O * I + 2 * R * I)
#define COST_linear_backward_weight     2 * R * I * O, A * R * (O + I) + 2 * F * O * I

#define COST_silu          4 * n, 2 * A * n
#define COST_silu_backward 8 * n, 3 * A * n
#define COST_gelu          10 * n, 2 * A * n

#define COST_norm_modulate                        10 * B * T * D, 2 * A * B * T * D
#define COST_norm_modulate_backward               20 * B * T * D, A * B * T * D * (dsum ? 4 : 3)
#define COST_gate_residual_norm_modulate          12 * B * T * D, 4 * A * B * T * D
#define COST_gate_residual_norm_modulate_backward 25 * B * T * D, A * B * T * D * (dsum ? 6 : 5)

#define COST_attention          4 * B * H * T * T * D, 4 * A * B * T * H * D
#define COST_attention_backward 10 * B * H * T * T * D, 8 * A * B * T * H * D

#define COST_patchify            0, (A + F) * B * C * H * W
#define COST_unpatchify          0, (A + F) * B * C * H * W
#define COST_unpatchify_backward 0, (A + F) * B * C * H * W
#define COST_add_row             B * n, A * (2 * B * n + n)

#define COST_timestep_features  10 * B * N, F * B + A * B * N
#define COST_embedding_add      B * D, 3 * A * B * D
#define COST_embedding_backward B * D, (A + 2 * F) * B * D
#define COST_to_act             0, (A + F) * n

#define COST_fill_normal    40 * B * n, F * B * n
#define COST_draw_times     40 * B, (F + 2 * sizeof *terms) * B
#define COST_draw_flow_times 100 * B, (F + sizeof *terms) * B
#define COST_drop_labels    40 * B, 2 * sizeof *labels * B
#define COST_latent_draw    2 * n, 4 * F * n
#define COST_diffuse        3 * B * n, 3 * F * B * n
#define COST_diffusion_loss (vb ? 100 : 6) * B * n, F * B * n * ((dout ? 4 : 3) + (vb ? dout ? 3 : 2 : 0))
#define COST_guide          3 * B *guided * n, 3 * F * B *guided * n
#define COST_sample_step    (20 + 2 * K * K) * B * n, (2 * K + 3) * F * B * n

#define COST_sum_squares 2 * n, F * n
#define COST_adamw       20 * n, (9 * F + A) * n
#define COST_average     3 * n, 3 * F * n

#define COST_image_to_float 2 * 3 * B * H * W, (1 + F) * 3 * B * H * W
#define COST_float_to_image 4 * 3 * B * H * W, (1 + F) * 3 * B * H * W
#define COST_dct_encode     35 * 3 * B * H * W, 3 * B * H * W + F * B * (n_y + 2 * n_c) * H * W / 64
#define COST_dct_decode     35 * 3 * B * H * W, 3 * F * B * H * W + F * B * (n_y + 2 * n_c) * H * W / 64

#define COST_channels_last  0, (A + F) * B * C * n
#define COST_channels_first 0, (A + F) * B * C * n
#define CONV_OUT            B * H * W * (kind == CONV_SAME ? 1 : kind == CONV_DOWN ? 0.25 : 4)
#define COST_conv3x3 \
    18 * CONV_OUT * I * O, A * (B * H * W * I + 9 * I * O + CONV_OUT * O * (sum ? 2 : 1))
#define COST_group_norm (silu ? 14 : 10) * B * n * C, 3 * A * B * n * C
#define COST_posterior  5 * B * n * C, 2 * (A + F) * B * n * C

#define COST_resize_images 12 * 3 * B * out * out, 3 * B * H * W + 3 * A * B * out * out
#define CONV2D_OUT         B * conv2d_out_H(p) * conv2d_out_W(p) * p->O
#define CONV2D_INPUTS      p->kernel_H * p->kernel_W * p->I
#define COST_conv2d_relu \
    2 * CONV2D_OUT * CONV2D_INPUTS, A * (B * p->H * p->W * p->I + p->O * CONV2D_INPUTS + CONV2D_OUT)
#define POOL3X3_OUT B * pool3x3_out(H, stride, padding) * pool3x3_out(W, stride, padding) * C
#define COST_pool3x3      9 * POOL3X3_OUT, A * (B * H * W * C + POOL3X3_OUT)
#define COST_mean_pixels  B * n * C, A * B * n * C + F * B * C
#define COST_take_columns 0, (A + F) * R * n
#define COST_product_f64  2 * R * I * O, sizeof(double) * (R * I + O * I + 2 * R * O)

// clang-format on

#endif
