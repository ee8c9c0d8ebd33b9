// Resampling as Pillow does it (src/libImaging/Resample.c): a horizontal pass, then a vertical one,
// with 8 bits in between; weights are normalised, rounded to 22 fractional bits, and summed in 32.
// SPDX-License-Identifier: MIT
#include "lib/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/error.h"
#include "lib/mem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#endif

#define WEIGHT_BITS  22
#define WEIGHT_HALF  (1 << (WEIGHT_BITS - 1))
#define ROWS_STEP    4  // rows that one pass over the weights serves
#define HALVINGS_MAX 64 // sides are size_t

enum pass_kind { PASS_COPY, PASS_HALVE, PASS_WEIGH };

// One pass along one axis: the outputs that are wanted, as weighted sums of inputs.
struct pass {
    enum pass_kind kind;
    size_t count;        // outputs
    size_t input_first;  // the first input that any of them needs
    size_t inputs;       // and how many from there on
    size_t taps;         // weights stored for each output, padded with 0; even
    struct span *spans;  // (count): inputs of each output, counted from input_first
    int32_t *weights;    // (count, taps)
    int16_t (*pairs)[4]; // (count, taps / 2): weights as weight_split parts them
};
struct span {
    size_t first, count;
};

// A resize: both passes.
struct step {
    struct pass x, y;
};

struct filter {
    double (*weight)(double x);
    double support;
};

static double weigh_box(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double weigh_bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static const struct filter filter_box = {weigh_box, 0.5};
static const struct filter filter_bicubic = {weigh_bicubic, 2.0};

// The weights of one output before rounding; returns its span of the inputs.
static struct span weigh_output(const struct filter *filter, size_t in, size_t out, size_t i,
                                double *weights)
{
    double scale = (double)in / (double)out;
    double filter_scale = scale < 1.0 ? 1.0 : scale;
    double support = filter->support * filter_scale;
    double center = ((double)i + 0.5) * scale;
    double low = center - support + 0.5, high = center + support + 0.5;
    struct span span = {low < 0 ? 0 : (size_t)low, high > (double)in ? in : (size_t)high};
    span.count -= span.first;
    double sum = 0.0;
    for (size_t t = 0; t < span.count; t++) {
        weights[t] =
            filter->weight(((double)(t + span.first) - center + 0.5) * (1.0 / filter_scale));
        sum += weights[t];
    }
    for (size_t t = 0; t < span.count && sum != 0.0; t++)
        weights[t] /= sum;
    return span;
}

// Two weights as high and low parts, so that pairs of taps go through 16-bit multiply-adds:
// weight = high * 2048 + low.
#define LOW_BITS 11

static void weight_split(const int32_t *weights, int16_t pair[4])
{
    for (size_t i = 0; i < 2; i++) {
        pair[i] = (int16_t)(weights[i] >> LOW_BITS);
        pair[2 + i] = (int16_t)(weights[i] & ((1 << LOW_BITS) - 1));
    }
}

static void pass_free(struct pass *pass)
{
    free(pass->pairs);
    free(pass->spans);
    free(pass->weights);
}

// Outputs [first, first + count) of a pass from `in` inputs to `out` outputs. To be freed also when
// it fails.
static int pass_init(struct pass *pass, const struct filter *filter, size_t in, size_t out,
                     size_t first, size_t count)
{
    *pass = (struct pass){.kind = PASS_WEIGH, .count = count};
    if (in == out || (filter == &filter_box && in == 2 * out)) {
        size_t factor = in / out;
        pass->kind = factor == 1 ? PASS_COPY : PASS_HALVE;
        pass->input_first = first * factor;
        pass->inputs = count * factor;
        return 0;
    }
    double scale = (double)in / (double)out;
    size_t taps = (size_t)ceil(filter->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
    taps += taps % 2;
    size_t n;
    double *exact = mem_new(taps, sizeof *exact);
    pass->taps = taps;
    pass->spans = mem_new(count, sizeof *pass->spans);
    if (size_mul(count, taps, &n)) {
        pass->weights = mem_new(n, sizeof *pass->weights);
        pass->pairs = mem_new(n / 2, sizeof *pass->pairs);
    }
    if (!exact || !pass->spans || !pass->weights || !pass->pairs) {
        free(exact);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        struct span span = weigh_output(filter, in, out, first + i, exact);
        for (size_t t = 0; t < span.count; t++) {
            double weight = exact[t] * (1 << WEIGHT_BITS);
            pass->weights[i * taps + t] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
        if (i == 0)
            pass->input_first = span.first;
        end = span.first + span.count;
        pass->spans[i] = (struct span){span.first - pass->input_first, span.count};
    }
    pass->inputs = end - pass->input_first;
    for (size_t t = 0; t < n; t += 2)
        weight_split(pass->weights + t, pass->pairs[t / 2]);
    free(exact);
    return 0;
}

static uint8_t clip(int32_t sum)
{
    int32_t value = sum >> WEIGHT_BITS;
    return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)value;
}

// The kernels. weigh_columns: ROWS_STEP rows at once, which may be the same. Kernels may write one
// vector past a row's end, so rows of an intermediate image are that much apart.
struct kernels {
    void (*weigh_columns)(const struct pass *pass, const uint8_t *const *in, uint8_t *const *out);
    void (*halve_columns)(const uint8_t *in, uint8_t *out, size_t count);
    void (*weigh_rows)(const struct pass *pass, size_t i, const uint8_t *in, size_t stride,
                       uint8_t *out, size_t size);
};

static void weigh_columns_plain(const struct pass *pass, const uint8_t *const *in,
                                uint8_t *const *out)
{
    for (size_t r = 0; r < ROWS_STEP; r++)
        for (size_t i = 0; i < pass->count; i++) {
            const uint8_t *pixels = in[r] + 3 * pass->spans[i].first;
            const int32_t *weights = pass->weights + i * pass->taps;
            int32_t red = WEIGHT_HALF, green = WEIGHT_HALF, blue = WEIGHT_HALF;
            for (size_t t = 0; t < pass->spans[i].count; t++) {
                red += pixels[3 * t] * weights[t];
                green += pixels[3 * t + 1] * weights[t];
                blue += pixels[3 * t + 2] * weights[t];
            }
            out[r][3 * i] = clip(red);
            out[r][3 * i + 1] = clip(green);
            out[r][3 * i + 2] = clip(blue);
        }
}

static void halve_columns_plain(const uint8_t *in, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = (uint8_t)((in[6 * i + c] + in[6 * i + 3 + c] + 1) >> 1);
}

static void weigh_rows_plain(const struct pass *pass, size_t i, const uint8_t *in, size_t stride,
                             uint8_t *out, size_t size)
{
    const int32_t *weights = pass->weights + i * pass->taps;
    size_t taps = pass->spans[i].count;
    for (size_t x = 0; x < size; x++) {
        int32_t sum = WEIGHT_HALF;
        for (size_t t = 0; t < taps; t++)
            sum += in[t * stride + x] * weights[t];
        out[x] = clip(sum);
    }
}

static const struct kernels kernels_plain = {weigh_columns_plain, halve_columns_plain,
                                             weigh_rows_plain};

#ifdef AVX2
// A pair's high or low parts, for all lanes.
AVX2 static inline __m256i load_parts(const int16_t *parts)
{
    int32_t both;
    memcpy(&both, parts, sizeof both);
    return _mm256_set1_epi32(both);
}

// sum + high * 2048 + low, of pairs of pixels with pairs of weights.
AVX2 static inline __m256i add_products(__m256i sum, __m256i pixels, __m256i high, __m256i low)
{
    sum = _mm256_add_epi32(sum, _mm256_slli_epi32(_mm256_madd_epi16(pixels, high), LOW_BITS));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pixels, low));
}

// The two pixels at a and the two at b, as 16 bits: r0 r1 g0 g1 b0 b1 - -.
AVX2 static inline __m256i load_pixels(const uint8_t *a, const uint8_t *b)
{
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    __m256i bytes =
        _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                _mm_loadu_si128((const __m128i *)b), 1);
    return _mm256_shuffle_epi8(bytes, order);
}

AVX2 static void weigh_columns_avx2(const struct pass *pass, const uint8_t *const *in,
                                    uint8_t *const *out)
{
    const __m256i half = _mm256_set1_epi32(WEIGHT_HALF);
    const uint8_t *in0 = in[0], *in1 = in[1], *in2 = in[2], *in3 = in[3];
    uint8_t *out0 = out[0], *out1 = out[1], *out2 = out[2], *out3 = out[3];
    for (size_t i = 0; i < pass->count; i++) {
        const int16_t(*pair)[4] = pass->pairs + i * pass->taps / 2;
        size_t x = 3 * pass->spans[i].first, end = x + 3 * pass->spans[i].count;
        __m256i sum01 = half, sum23 = half;
        for (; x < end; x += 6, pair++) {
            __m256i high = load_parts(*pair), low = load_parts(*pair + 2);
            sum01 = add_products(sum01, load_pixels(in0 + x, in1 + x), high, low);
            sum23 = add_products(sum23, load_pixels(in2 + x, in3 + x), high, low);
        }
        __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(sum01, WEIGHT_BITS),
                                           _mm256_srai_epi32(sum23, WEIGHT_BITS));
        uint32_t pixels[8]; // of rows 0, 2, -, -, 1, 3, -, -
        _mm256_storeu_si256((__m256i *)pixels, _mm256_packus_epi16(words, words));
        memcpy(out0 + 3 * i, &pixels[0], 4);
        memcpy(out1 + 3 * i, &pixels[4], 4);
        memcpy(out2 + 3 * i, &pixels[1], 4);
        memcpy(out3 + 3 * i, &pixels[5], 4);
    }
}

AVX2 static void halve_columns_avx2(const uint8_t *in, uint8_t *out, size_t count)
{
    const __m128i even = _mm_setr_epi8(0, 1, 2, 6, 7, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m128i odd = _mm_setr_epi8(3, 4, 5, 9, 10, 11, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    for (size_t i = 0; i < count; i += 2) {
        __m128i p = _mm_loadu_si128((const __m128i *)(in + 6 * i));
        p = _mm_avg_epu8(_mm_shuffle_epi8(p, even), _mm_shuffle_epi8(p, odd));
        _mm_storel_epi64((__m128i *)(out + 3 * i), p);
    }
}

AVX2 static void weigh_rows_avx2(const struct pass *pass, size_t i, const uint8_t *in,
                                 size_t stride, uint8_t *out, size_t size)
{
    const __m256i half = _mm256_set1_epi32(WEIGHT_HALF);
    size_t taps = pass->spans[i].count, x = 0;
    for (; x + 32 <= size; x += 32) {
        const int16_t(*pair)[4] = pass->pairs + i * pass->taps / 2;
        const uint8_t *row = in + x;
        __m256i sum0 = half, sum1 = half, sum2 = half, sum3 = half;
        for (size_t t = 0; t < taps; t += 2, row += 2 * stride, pair++) {
            // After the last row stands the last row again, with the weight 0 of the padding.
            const uint8_t *next = t + 1 < taps ? row + stride : row;
            __m256i high = load_parts(*pair), low = load_parts(*pair + 2);
            __m256i p = _mm256_loadu_si256((const __m256i *)row);
            __m256i q = _mm256_loadu_si256((const __m256i *)next);
            __m256i pq = _mm256_unpacklo_epi8(p, q), rest = _mm256_unpackhi_epi8(p, q);
            const __m256i zero = _mm256_setzero_si256();
            sum0 = add_products(sum0, _mm256_unpacklo_epi8(pq, zero), high, low);
            sum1 = add_products(sum1, _mm256_unpackhi_epi8(pq, zero), high, low);
            sum2 = add_products(sum2, _mm256_unpacklo_epi8(rest, zero), high, low);
            sum3 = add_products(sum3, _mm256_unpackhi_epi8(rest, zero), high, low);
        }
        // Packing undoes the order in which unpacking left the halves.
        __m256i first = _mm256_packs_epi32(_mm256_srai_epi32(sum0, WEIGHT_BITS),
                                           _mm256_srai_epi32(sum1, WEIGHT_BITS));
        __m256i second = _mm256_packs_epi32(_mm256_srai_epi32(sum2, WEIGHT_BITS),
                                            _mm256_srai_epi32(sum3, WEIGHT_BITS));
        _mm256_storeu_si256((__m256i *)(out + x), _mm256_packus_epi16(first, second));
    }
    weigh_rows_plain(pass, i, in + x, stride, out + x, size - x);
}

static const struct kernels kernels_avx2 = {weigh_columns_avx2, halve_columns_avx2,
                                            weigh_rows_avx2};
#endif

static const struct kernels *kernels_best(void)
{
#ifdef AVX2
    if (__builtin_cpu_supports("avx2"))
        return &kernels_avx2;
#endif
    return &kernels_plain;
}

// An image of which a part was computed. stride leaves room for a vector past each row.
struct canvas {
    uint8_t *data;
    size_t stride;
};

static int canvas_init(struct canvas *canvas, size_t width, size_t height)
{
    size_t size;
    if (!size_mul(width, 3, &canvas->stride) ||
        !size_add(canvas->stride, RESAMPLE_PADDING, &canvas->stride) ||
        !size_mul(canvas->stride, height, &size) ||
        !(canvas->data = malloc(size + RESAMPLE_PADDING)))
        return error_set(STATUS_INTERNAL, "out of memory for an image of %zu x %zu", width, height);
    // What lies between the rows is loaded (with weight 0), so it must be set.
    for (size_t y = 0; y < height; y++)
        memset(canvas->data + y * canvas->stride + 3 * width, 0, RESAMPLE_PADDING);
    memset(canvas->data + size, 0, RESAMPLE_PADDING);
    return 0;
}

// The horizontal pass for ROWS_STEP rows, or those of them that there are.
static void columns_run(const struct kernels *kernels, const struct pass *pass, const uint8_t *in,
                        size_t in_stride, const struct canvas *out, size_t first, size_t rows)
{
    const uint8_t *from[ROWS_STEP];
    uint8_t *to[ROWS_STEP];
    for (size_t r = 0; r < ROWS_STEP; r++) {
        size_t y = first + (r < rows ? r : 0);
        from[r] = in + y * in_stride;
        to[r] = out->data + y * out->stride;
    }
    if (pass->kind == PASS_WEIGH)
        kernels->weigh_columns(pass, from, to);
    else
        for (size_t r = 0; r < rows; r++) {
            if (pass->kind == PASS_HALVE)
                kernels->halve_columns(from[r], to[r], pass->count);
            else
                memcpy(to[r], from[r], 3 * pass->count);
        }
}

// out: y.count rows of 3 * x.count bytes.
static int step_run(const struct kernels *kernels, const struct step *step, const uint8_t *in,
                    size_t in_stride, uint8_t *out, size_t out_stride)
{
    const struct pass *y = &step->y;
    size_t size = 3 * step->x.count;
    struct canvas between;
    if (canvas_init(&between, step->x.count, y->inputs))
        return -1;
    // Rows are made shortly before they are used, while the cache holds them.
    for (size_t i = 0, made = 0; i < y->count; i++, out += out_stride) {
        size_t factor = y->kind == PASS_HALVE ? 2 : 1;
        struct span span = y->kind == PASS_WEIGH ? y->spans[i] : (struct span){i * factor, factor};
        while (made < span.first + span.count) {
            size_t rows = y->inputs - made < ROWS_STEP ? y->inputs - made : ROWS_STEP;
            columns_run(kernels, &step->x, in, in_stride, &between, made, rows);
            made += rows;
        }
        const uint8_t *row = between.data + span.first * between.stride;
        if (y->kind == PASS_WEIGH)
            kernels->weigh_rows(y, i, row, between.stride, out, size);
        else if (y->kind == PASS_HALVE)
            for (size_t x = 0; x < size; x++)
                out[x] = (uint8_t)((row[x] + row[x + between.stride] + 1) >> 1);
        else
            memcpy(out, row, size);
    }
    free(between.data);
    return 0;
}

static void steps_free(struct step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pass_free(&steps[i].x);
        pass_free(&steps[i].y);
    }
}

// Each step makes only what the next one needs, so they are planned from the last to the first.
static int steps_init(struct step *steps, size_t halvings, size_t width, size_t height, size_t size)
{
    size_t w = width >> halvings, h = height >> halvings;
    double scale = (double)size / (double)(w < h ? w : h);
    size_t w_out = (size_t)rint((double)w * scale), h_out = (size_t)rint((double)h * scale);
    struct step *step = &steps[halvings];
    if (pass_init(&step->x, &filter_bicubic, w, w_out, (w_out - size) / 2, size) ||
        pass_init(&step->y, &filter_bicubic, h, h_out, (h_out - size) / 2, size))
        return -1;
    for (size_t i = halvings; i-- > 0; step = &steps[i]) {
        if (pass_init(&steps[i].x, &filter_box, width >> i, width >> (i + 1), step->x.input_first,
                      step->x.inputs) ||
            pass_init(&steps[i].y, &filter_box, height >> i, height >> (i + 1), step->y.input_first,
                      step->y.inputs))
            return -1;
    }
    return 0;
}

static int crop_with(const struct kernels *kernels, const uint8_t *rgb, size_t width, size_t height,
                     size_t size, uint8_t *out)
{
    size_t halvings = 0;
    while ((width < height ? width : height) >> halvings >= 2 * size)
        halvings++;
    struct step steps[HALVINGS_MAX] = {0};
    struct canvas image = {0};
    int rc = steps_init(steps, halvings, width, height, size);
    size_t stride = 3 * width;
    const uint8_t *in = rgb + steps[0].y.input_first * stride + 3 * steps[0].x.input_first;
    for (size_t i = 0; i < halvings && !rc; i++) {
        struct canvas next = {0};
        rc = canvas_init(&next, steps[i].x.count, steps[i].y.count) ||
             step_run(kernels, &steps[i], in, stride, next.data, next.stride);
        free(image.data);
        image = next;
        in = image.data;
        stride = image.stride;
    }
    if (!rc)
        rc = step_run(kernels, &steps[halvings], in, stride, out, 3 * size);
    free(image.data);
    steps_free(steps, halvings + 1);
    return rc ? -1 : 0;
}

int resample_crop(const uint8_t *rgb, size_t width, size_t height, size_t size, uint8_t *out)
{
    return crop_with(kernels_best(), rgb, width, height, size, out);
}

int resample_crop_plain(const uint8_t *rgb, size_t width, size_t height, size_t size, uint8_t *out)
{
    return crop_with(&kernels_plain, rgb, width, height, size, out);
}
