// Random numbers: normal ones, time steps, dropped labels, draws of latents.
// SPDX-License-Identifier: MIT
//
// A thread makes the four normal numbers of one Philox block with about 150 integer and 100 float
// operations for 16 bytes, which takes less time than the memory. Angles and logarithms have nearly
// full precision, so that the numbers differ from the other backends' only by the rounding of
// float32. For time steps and labels each thread takes one sample, and the results equal the other
// backends'.
#include "kernels/cuda/vector.h"
#include "kernels/flow-terms.h"

// sqrt(-2 log u) of u = (word + 0.5) / 2^32. Above 1/2 it uses the distance from 1, which is exact.
static __device__ __forceinline__ float radius(uint32_t word)
{
    const bool above = word >> 31;
    const float u = (static_cast<float>(above ? ~word : word) + 0.5f) * 0x1p-32f;
    return sqrtf(-2 * (above ? log1pf(-u) : logf(u)));
}

// Two normal numbers from a pair of words: the radius times the cosine and sine of 2 pi u.
static __device__ __forceinline__ void box_muller(uint32_t word0, uint32_t word1, float *first,
                                                  float *second)
{
    // Splits the angle into the nearest quarter turn and the rest.
    const uint32_t turn = word1 + 0x20000000u;
    const int32_t rest = static_cast<int32_t>(turn & 0x3fffffffu) - 0x20000000;
    const float r = radius(word0);
    float s, c;
    sincospif((static_cast<float>(rest) + 0.5f) * 0x1p-31f, &s, &c);
    const bool odd = turn >> 30 & 1, back = turn >> 31;
    const float cosine = odd ? -s : c, sine = odd ? c : s;
    *first = r * (back ? -cosine : cosine);
    *second = r * (back ? -sine : sine);
}

template <bool WIDE>
static __global__ void __launch_bounds__(THREADS)
    fill_normal_kernel(float *x, uint64_t seed, uint32_t purpose, uint32_t step, uint64_t first,
                       size_t B, size_t n)
{
    const size_t i = thread_place(4);
    if (i >= n)
        return;
    for (size_t b = blockIdx.y; b < B; b += gridDim.y) {
        uint32_t words[4];
        float normal[4];
        philox_block(seed, purpose, step, first + b, static_cast<uint32_t>(i / 4), words);
        box_muller(words[0], words[1], &normal[0], &normal[1]);
        box_muller(words[2], words[3], &normal[2], &normal[3]);
        if constexpr (WIDE) {
            store(x + b * n + i, normal);
        } else {
            for (size_t k = 0; k < 4; k++)
                if (i + k < n)
                    x[b * n + i + k] = normal[k];
        }
    }
}

void CUDA_FN(fill_normal)(struct device *device, float *x, uint64_t seed, uint32_t purpose,
                          uint32_t step, uint64_t first, size_t B, size_t n)
{
    if (B == 0 || n == 0)
        return;
    const auto fill_normal =
        can_be_wide(n, 4, x) ? fill_normal_kernel<true> : fill_normal_kernel<false>;
    RUN_KERNEL(device, fill_normal, sample_grid(B, n, 4), THREADS, 0, x, seed, purpose, step, first,
               B, n);
}

static __global__ void __launch_bounds__(THREADS)
    draw_times_kernel(float *t, struct diffusion_terms *terms, const struct diffusion_terms *table,
                      uint32_t steps, uint64_t seed, uint32_t purpose, uint32_t step,
                      uint64_t first, size_t B)
{
    const size_t b = thread_place(1);
    if (b >= B)
        return;
    const uint64_t at = philox_below(seed, purpose, step, first + b, steps);
    t[b] = static_cast<float>(at);
    terms[b] = table[at];
}

void CUDA_FN(draw_times)(struct device *device, float *t, struct diffusion_terms *terms,
                         const struct diffusion_terms *table, size_t steps, uint64_t seed,
                         uint32_t purpose, uint32_t step, uint64_t first, size_t B)
{
    if (B)
        RUN_KERNEL(device, draw_times_kernel, blocks_for(B, THREADS), THREADS, 0, t, terms, table,
                   static_cast<uint32_t>(steps), seed, purpose, step, first, B);
}

static __global__ void __launch_bounds__(THREADS)
    draw_flow_times_kernel(float *t, struct diffusion_terms *terms, struct flow_training flow,
                           uint64_t seed, uint32_t purpose, uint32_t step, uint64_t first, size_t B)
{
    const size_t b = thread_place(1);
    if (b >= B)
        return;
    uint32_t words[4];
    philox_block(seed, purpose, step, first + b, 0, words);
    const float time = flow_draw_time(&flow, words);
    t[b] = flow_model_time(&flow, time);
    terms[b] = flow_terms(&flow, time);
}

void CUDA_FN(draw_flow_times)(struct device *device, float *t, struct diffusion_terms *terms,
                              const struct flow_training *flow, uint64_t seed, uint32_t purpose,
                              uint32_t step, uint64_t first, size_t B)
{
    if (B)
        RUN_KERNEL(device, draw_flow_times_kernel, blocks_for(B, THREADS), THREADS, 0, t, terms,
                   *flow, seed, purpose, step, first, B);
}

static __global__ void __launch_bounds__(THREADS)
    drop_labels_kernel(int32_t *labels, const int32_t *given, int32_t null_class, double rate,
                       uint64_t seed, uint32_t purpose, uint32_t step, uint64_t first, size_t B)
{
    const size_t b = thread_place(1);
    if (b >= B)
        return;
    uint32_t words[4];
    philox_block(seed, purpose, step, first + b, 0, words);
    labels[b] = given[b] < 0 || philox_uniform(words[0]) < rate ? null_class : given[b];
}

void CUDA_FN(drop_labels)(struct device *device, int32_t *labels, const int32_t *given,
                          int32_t null_class, double rate, uint64_t seed, uint32_t purpose,
                          uint32_t step, uint64_t first, size_t B)
{
    if (B)
        RUN_KERNEL(device, drop_labels_kernel, blocks_for(B, THREADS), THREADS, 0, labels, given,
                   null_class, rate, seed, purpose, step, first, B);
}

template <int WIDTH>
static __global__ void __launch_bounds__(THREADS)
    latent_draw_kernel(float *x, const float *mean, const float *std, const float *noise, size_t n)
{
    const size_t i = thread_place(WIDTH);
    if (i >= n)
        return;
    float m[WIDTH], s[WIDTH], v[WIDTH];
    load(m, mean + i);
    load(s, std + i);
    load(v, noise + i);
    for (int k = 0; k < WIDTH; k++)
        v[k] = m[k] + s[k] * v[k];
    store(x + i, v);
}

void CUDA_FN(latent_draw)(struct device *device, float *x, const float *mean, const float *std,
                          const float *noise, size_t n)
{
    if (n == 0)
        return;
    const bool wide = can_be_wide(n, 4, x, mean, std, noise);
    const auto latent_draw = wide ? latent_draw_kernel<4> : latent_draw_kernel<1>;
    RUN_KERNEL(device, latent_draw, blocks_for(n, THREADS * (wide ? 4 : 1)), THREADS, 0, x, mean,
               std, noise, n);
}
