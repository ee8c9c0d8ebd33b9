// Resamples as Pillow does (src/libImaging/Resample.c): a horizontal pass and a vertical one, with
// 8-bit pixels in between. Weights are normalised and rounded to 22 fractional bits, and the sums
// of products are kept in 32 bits. SPDX-License-Identifier: MIT
#include "formats/images/resample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cpu.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))
#endif

#define WEIGHT_BITS  22
#define WEIGHT_HALF  (1 << (WEIGHT_BITS - 1))
#define ROWS_STEP    4  // rows that the horizontal pass filters at once
#define HALVINGS_MAX 64 // bits of a size_t, and so more than any side allows

struct span {
    size_t first, count;
};

enum pass_kind { PASS_COPY, PASS_HALVE, PASS_FILTER };

// One pass along one axis: it makes the wanted outputs as weighted sums of inputs.
struct axis_pass {
    enum pass_kind kind;
    size_t count;        // outputs
    struct span inputs;  // all inputs that the outputs need
    size_t taps;         // weights stored for each output: the most any needs, made even; 0 beyond
    struct span *spans;  // (count): the inputs of each output, counted from inputs.first
    int32_t *weights;    // (count, taps)
    int16_t (*pairs)[4]; // (count, taps / 2): weights split by weight_split
};

// A resize of both axes.
struct step {
    struct axis_pass x, y;
    bool vertical_first;
};

struct filter {
    double (*weight)(double x);
    double support;
};

static double box_weight(double x)
{
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bicubic_weight(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static const struct filter filter_box = {box_weight, 0.5};
static const struct filter filter_bicubic = {bicubic_weight, 2.0};

// Inputs per output when shrinking, else 1: the factor that widens the filter.
static double filter_scale(size_t in, size_t out)
{
    double scale = (double)in / (double)out;
    return scale < 1.0 ? 1.0 : scale;
}

static double output_center(size_t in, size_t out, size_t i)
{
    return ((double)i + 0.5) * ((double)in / (double)out);
}

// The inputs that one output depends on.
static struct span output_span(const struct filter *filter, size_t in, size_t out, size_t i)
{
    double support = filter->support * filter_scale(in, out);
    double center = output_center(in, out, i);
    double low = center - support + 0.5, high = center + support + 0.5;
    struct span span = {low < 0 ? 0 : (size_t)low, high > (double)in ? in : (size_t)high};
    span.count -= span.first;
    return span;
}

// The inputs that several outputs depend on.
static struct span outputs_span(const struct filter *filter, size_t in, size_t out,
                                struct span outputs)
{
    if (in == out)
        return outputs;
    struct span first = output_span(filter, in, out, outputs.first);
    struct span last = output_span(filter, in, out, outputs.first + outputs.count - 1);
    return (struct span){first.first, last.first + last.count - first.first};
}

// The weights of the inputs `span` of output i, before they are rounded.
static void normalized_weights(const struct filter *filter, size_t in, size_t out, size_t i,
                               struct span span, double *weights)
{
    double center = output_center(in, out, i), shrink = 1.0 / filter_scale(in, out), sum = 0.0;
    for (size_t t = 0; t < span.count; t++) {
        weights[t] = filter->weight(((double)(t + span.first) - center + 0.5) * shrink);
        sum += weights[t];
    }
    for (size_t t = 0; t < span.count && sum != 0.0; t++)
        weights[t] /= sum;
}

// Splits two weights into high and low parts, weight = high * 2048 + low, so that 16-bit
// multiply-add instructions can process two taps at once.
#define LOW_BITS 11

static void weight_split(const int32_t *weights, int16_t pair[4])
{
    for (size_t i = 0; i < 2; i++) {
        pair[i] = (int16_t)(weights[i] >> LOW_BITS);
        pair[2 + i] = (int16_t)(weights[i] & ((1 << LOW_BITS) - 1));
    }
}

static void pass_free(struct axis_pass *pass)
{
    free(pass->pairs);
    free(pass->spans);
    free(pass->weights);
}

// Prepares the given outputs of a pass from `in` inputs to `out`. pass_free it even after -1.
static int pass_init(struct axis_pass *pass, const struct filter *filter, size_t in, size_t out,
                     struct span outputs)
{
    const size_t count = outputs.count;
    *pass = (struct axis_pass){
        .kind = PASS_FILTER, .count = count, .inputs = outputs_span(filter, in, out, outputs)};
    if (in == out || (filter == &filter_box && in == 2 * out)) {
        pass->kind = in == out ? PASS_COPY : PASS_HALVE;
        return 0;
    }
    const size_t room = count + 1; // the AVX2 kernel makes outputs in pairs
    pass->spans = mem_new(room, sizeof *pass->spans);
    if (!pass->spans)
        return -1;
    size_t taps = 0, n;
    for (size_t i = 0; i < count; i++) {
        pass->spans[i] = output_span(filter, in, out, outputs.first + i);
        taps = pass->spans[i].count > taps ? pass->spans[i].count : taps;
    }
    pass->taps = taps += taps % 2;
    double *exact = mem_new(taps, sizeof *exact);
    if (size_mul(room, taps, &n)) {
        pass->weights = mem_new(n, sizeof *pass->weights);
        pass->pairs = mem_new(n / 2, sizeof *pass->pairs);
    }
    if (!exact || !pass->weights || !pass->pairs) {
        free(exact);
        return error_set(STATUS_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        struct span *span = &pass->spans[i];
        normalized_weights(filter, in, out, outputs.first + i, *span, exact);
        for (size_t t = 0; t < span->count; t++) {
            double weight = exact[t] * (1 << WEIGHT_BITS);
            pass->weights[i * taps + t] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
        span->first -= pass->inputs.first;
    }
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

// The inner loops, plain or vectorized. filter_horizontal takes ROWS_STEP rows at once, some of
// which may be the same one. A kernel may write up to one vector past a row's end, so the rows of
// intermediate images have that much room between them.
struct kernels {
    void (*filter_horizontal)(const struct axis_pass *pass, const uint8_t *const *in,
                              uint8_t *const *out);
    void (*halve_horizontal)(const uint8_t *in, uint8_t *out, size_t count);
    void (*halve_both)(const uint8_t *in, size_t stride, uint8_t *out, size_t count);
    void (*filter_vertical)(const struct axis_pass *pass, size_t i, const uint8_t *in,
                            size_t stride, uint8_t *out, size_t size);
};

static void filter_horizontal_plain(const struct axis_pass *pass, const uint8_t *const *in,
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

static void halve_horizontal_plain(const uint8_t *in, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            out[3 * i + c] = (uint8_t)((in[6 * i + c] + in[6 * i + 3 + c] + 1) >> 1);
}

static void halve_both_plain(const uint8_t *in, size_t stride, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++) {
            const uint8_t *p = in + 6 * i + c;
            int upper = (p[0] + p[3] + 1) >> 1, lower = (p[stride] + p[stride + 3] + 1) >> 1;
            out[3 * i + c] = (uint8_t)((upper + lower + 1) >> 1);
        }
}

static void filter_vertical_plain(const struct axis_pass *pass, size_t i, const uint8_t *in,
                                  size_t stride, uint8_t *out, size_t size)
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

static const struct kernels kernels_plain = {filter_horizontal_plain, halve_horizontal_plain,
                                             halve_both_plain, filter_vertical_plain};

#ifdef AVX2
// The high or low parts of two weights, repeated in all lanes.
AVX2 static inline __m256i broadcast_pair(const int16_t *parts)
{
    int32_t both;
    memcpy(&both, parts, sizeof both);
    return _mm256_set1_epi32(both);
}

// Sums of the products of pixels with the high parts of weights, and with the low parts.
struct sums {
    __m256i high, low;
};

AVX2 static inline void add_products(struct sums *sums, __m256i pixels, __m256i high, __m256i low)
{
    sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(pixels, high));
    sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(pixels, low));
}

// The weighted sums, rounded to pixels but not yet clipped.
AVX2 static inline __m256i sums_total(struct sums sums)
{
    return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(sums.high, LOW_BITS), sums.low),
                             WEIGHT_BITS);
}

// 16 bytes from a in the lower half, 16 from b in the upper.
AVX2 static inline __m256i load_halves(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)),
                                   _mm_loadu_si128((const __m128i *)b), 1);
}

// One output pixel of 4 rows, in 16 bits: rows 0 and 2 in the lower half, 1 and 3 in the upper. All
// outputs take the same number of taps, the last ones with weight 0, so the loop can be unrolled.
AVX2 static inline __attribute__((always_inline)) __m256i
filter_pixel(const uint8_t *const in[ROWS_STEP], const int16_t (*pair)[4], size_t taps)
{
    // Interleaves pixels 0 and 1, or 2 and 3, as 16 bits: r0 r1 g0 g1 b0 b1 - -.
    const __m256i orders[2] = {_mm256_broadcastsi128_si256(_mm_setr_epi8(
                                   0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1)),
                               _mm256_broadcastsi128_si256(_mm_setr_epi8(
                                   6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1))};
    const struct sums none = {_mm256_setzero_si256(), _mm256_set1_epi32(WEIGHT_HALF)};
    struct sums sums01 = none, sums23 = none;
    for (size_t t = 0, x = 0; t < taps; t += 4, x += 12) {
        __m256i p = load_halves(in[0] + x, in[1] + x), q = load_halves(in[2] + x, in[3] + x);
        for (size_t k = 0; k < 2 && t + 2 * k < taps; k++, pair++) {
            __m256i high = broadcast_pair(*pair), low = broadcast_pair(*pair + 2);
            add_products(&sums01, _mm256_shuffle_epi8(p, orders[k]), high, low);
            add_products(&sums23, _mm256_shuffle_epi8(q, orders[k]), high, low);
        }
    }
    return _mm256_packs_epi32(sums_total(sums01), sums_total(sums23));
}

// Makes two outputs at a time; an odd count is rounded up.
AVX2 static inline __attribute__((always_inline)) void
filter_horizontal_taps(const struct axis_pass *pass, const uint8_t *const *in, uint8_t *const *out,
                       size_t taps)
{
    const __m256i order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 8, 9, 10, -1, -1, 4, 5, 6, 12, 13, 14, -1, -1));
    const uint8_t *in0 = in[0], *in1 = in[1], *in2 = in[2], *in3 = in[3];
    uint8_t *out0 = out[0], *out1 = out[1], *out2 = out[2], *out3 = out[3];
    const int16_t(*pair)[4] = pass->pairs;
    for (size_t i = 0; i < pass->count; i += 2, pair += taps) {
        size_t a = 3 * pass->spans[i].first, b = 3 * pass->spans[i + 1].first;
        const uint8_t *const at_a[ROWS_STEP] = {in0 + a, in1 + a, in2 + a, in3 + a};
        const uint8_t *const at_b[ROWS_STEP] = {in0 + b, in1 + b, in2 + b, in3 + b};
        __m256i pixels = _mm256_packus_epi16(filter_pixel(at_a, pair, taps),
                                             filter_pixel(at_b, pair + taps / 2, taps));
        pixels = _mm256_shuffle_epi8(pixels, order);
        __m128i rows02 = _mm256_castsi256_si128(pixels);
        __m128i rows13 = _mm256_extracti128_si256(pixels, 1);
        _mm_storel_epi64((__m128i *)(out0 + 3 * i), rows02);
        _mm_storel_epi64((__m128i *)(out1 + 3 * i), rows13);
        _mm_storel_epi64((__m128i *)(out2 + 3 * i), _mm_unpackhi_epi64(rows02, rows02));
        _mm_storel_epi64((__m128i *)(out3 + 3 * i), _mm_unpackhi_epi64(rows13, rows13));
    }
}

AVX2 static void filter_horizontal_avx2(const struct axis_pass *pass, const uint8_t *const *in,
                                        uint8_t *const *out)
{
    switch (pass->taps) {
    case 4:
        filter_horizontal_taps(pass, in, out, 4);
        break;
    case 6:
        filter_horizontal_taps(pass, in, out, 6);
        break;
    case 8:
        filter_horizontal_taps(pass, in, out, 8);
        break;
    default:
        filter_horizontal_taps(pass, in, out, pass->taps);
    }
}

// Stores pixels 0, 2 and 4 of each half, 9 bytes each.
AVX2 static inline void store_even_pixels(uint8_t *out, __m256i pixels)
{
    const __m256i even = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 6, 7, 8, 12, 13, 14, -1, -1, -1, -1, -1, -1, -1));
    pixels = _mm256_shuffle_epi8(pixels, even);
    _mm_storeu_si128((__m128i *)out, _mm256_castsi256_si128(pixels));
    _mm_storeu_si128((__m128i *)(out + 9), _mm256_extracti128_si256(pixels, 1));
}

// Means of neighbours: of pixels 0 and 1, 2 and 3, 4 and 5 in places 0, 2, 4 of the lower half; of
// the next six pixels likewise in the upper half.
AVX2 static inline __m256i mean_of_neighbours(const uint8_t *in)
{
    return _mm256_avg_epu8(load_halves(in, in + 18), load_halves(in + 3, in + 21));
}

AVX2 static void halve_horizontal_avx2(const uint8_t *in, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i += 6)
        store_even_pixels(out + 3 * i, mean_of_neighbours(in + 6 * i));
}

AVX2 static void halve_both_avx2(const uint8_t *in, size_t stride, uint8_t *out, size_t count)
{
    for (size_t i = 0; i < count; i += 6) {
        __m256i upper = mean_of_neighbours(in + 6 * i);
        __m256i lower = mean_of_neighbours(in + stride + 6 * i);
        store_even_pixels(out + 3 * i, _mm256_avg_epu8(upper, lower));
    }
}

AVX2 static void filter_vertical_avx2(const struct axis_pass *pass, size_t i, const uint8_t *in,
                                      size_t stride, uint8_t *out, size_t size)
{
    const struct sums none = {_mm256_setzero_si256(), _mm256_set1_epi32(WEIGHT_HALF)};
    size_t taps = pass->spans[i].count, x = 0;
    for (; x + 32 <= size; x += 32) {
        const int16_t(*pair)[4] = pass->pairs + i * pass->taps / 2;
        const uint8_t *row = in + x;
        struct sums sums[4] = {none, none, none, none};
        for (size_t t = 0; t < taps; t += 2, row += 2 * stride, pair++) {
            // An odd row at the end is paired with itself; the second weight is 0.
            const uint8_t *next = t + 1 < taps ? row + stride : row;
            __m256i high = broadcast_pair(*pair), low = broadcast_pair(*pair + 2);
            __m256i p = _mm256_loadu_si256((const __m256i *)row);
            __m256i q = _mm256_loadu_si256((const __m256i *)next);
            __m256i pq = _mm256_unpacklo_epi8(p, q), rest = _mm256_unpackhi_epi8(p, q);
            const __m256i zero = _mm256_setzero_si256();
            add_products(&sums[0], _mm256_unpacklo_epi8(pq, zero), high, low);
            add_products(&sums[1], _mm256_unpackhi_epi8(pq, zero), high, low);
            add_products(&sums[2], _mm256_unpacklo_epi8(rest, zero), high, low);
            add_products(&sums[3], _mm256_unpackhi_epi8(rest, zero), high, low);
        }
        // Packing restores the order of bytes that unpacking changed.
        __m256i first = _mm256_packs_epi32(sums_total(sums[0]), sums_total(sums[1]));
        __m256i second = _mm256_packs_epi32(sums_total(sums[2]), sums_total(sums[3]));
        _mm256_storeu_si256((__m256i *)(out + x), _mm256_packus_epi16(first, second));
    }
    filter_vertical_plain(pass, i, in + x, stride, out + x, size - x);
}

static const struct kernels kernels_avx2 = {filter_horizontal_avx2, halve_horizontal_avx2,
                                            halve_both_avx2, filter_vertical_avx2};
#endif

static const struct kernels *kernels_fastest(void)
{
#ifdef AVX2
    if (cpu_isa() >= CPU_AVX2)
        return &kernels_avx2;
#endif
    return &kernels_plain;
}

// An intermediate image, of which only the part that is needed is computed. Its stride leaves room
// for a vector past each row.
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
    // Vectors load the bytes between rows (and multiply them by 0), so they must be initialized.
    for (size_t y = 0; y < height; y++)
        memset(canvas->data + y * canvas->stride + 3 * width, 0, RESAMPLE_PADDING);
    memset(canvas->data + size, 0, RESAMPLE_PADDING);
    return 0;
}

// The horizontal pass for up to ROWS_STEP rows from `first` on.
static void run_horizontal(const struct kernels *kernels, const struct axis_pass *pass,
                           const uint8_t *in, size_t in_stride, const struct canvas *out,
                           size_t first, size_t rows)
{
    const uint8_t *from[ROWS_STEP];
    uint8_t *to[ROWS_STEP];
    for (size_t r = 0; r < ROWS_STEP; r++) {
        size_t y = first + (r < rows ? r : 0);
        from[r] = in + y * in_stride;
        to[r] = out->data + y * out->stride;
    }
    if (pass->kind == PASS_FILTER)
        kernels->filter_horizontal(pass, from, to);
    else
        for (size_t r = 0; r < rows; r++) {
            if (pass->kind == PASS_HALVE)
                kernels->halve_horizontal(from[r], to[r], pass->count);
            else
                memcpy(to[r], from[r], 3 * pass->count);
        }
}

// The inputs of output i of the vertical pass.
static struct span vertical_span(const struct axis_pass *pass, size_t i)
{
    size_t factor = pass->kind == PASS_HALVE ? 2 : 1;
    return pass->kind == PASS_FILTER ? pass->spans[i] : (struct span){i * factor, factor};
}

// The vertical pass for row i of its outputs, of `size` bytes. in: the row of its first input.
static void run_vertical(const struct kernels *kernels, const struct axis_pass *pass, size_t i,
                         const uint8_t *in, size_t stride, uint8_t *out, size_t size)
{
    if (pass->kind == PASS_FILTER)
        kernels->filter_vertical(pass, i, in, stride, out, size);
    else if (pass->kind == PASS_HALVE)
        for (size_t x = 0; x < size; x++)
            out[x] = (uint8_t)((in[x] + in[x + stride] + 1) >> 1);
    else
        memcpy(out, in, size);
}

static int run_horizontal_first(const struct kernels *kernels, const struct step *step,
                                const uint8_t *in, size_t in_stride, uint8_t *out,
                                size_t out_stride)
{
    const struct axis_pass *y = &step->y;
    struct canvas between;
    if (canvas_init(&between, step->x.count, y->inputs.count) < 0)
        return -1;
    // The horizontal pass makes rows just before the vertical one needs them, so they stay in
    // cache.
    for (size_t i = 0, made = 0; i < y->count; i++, out += out_stride) {
        struct span span = vertical_span(y, i);
        while (made < span.first + span.count) {
            size_t rows = y->inputs.count - made < ROWS_STEP ? y->inputs.count - made : ROWS_STEP;
            run_horizontal(kernels, &step->x, in, in_stride, &between, made, rows);
            made += rows;
        }
        run_vertical(kernels, y, i, between.data + span.first * between.stride, between.stride, out,
                     3 * step->x.count);
    }
    free(between.data);
    return 0;
}

static int run_vertical_first(const struct kernels *kernels, const struct step *step,
                              const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride)
{
    const struct axis_pass *x = &step->x, *y = &step->y;
    struct canvas between = {0}, made = {0};
    int rc = canvas_init(&between, x->inputs.count, ROWS_STEP) < 0 ||
                     canvas_init(&made, x->count + 1, ROWS_STEP) < 0
                 ? -1
                 : 0;
    for (size_t first = 0; first < y->count && rc == 0; first += ROWS_STEP) {
        size_t rows = y->count - first < ROWS_STEP ? y->count - first : ROWS_STEP;
        for (size_t r = 0; r < rows; r++)
            run_vertical(kernels, y, first + r, in + vertical_span(y, first + r).first * in_stride,
                         in_stride, between.data + r * between.stride, 3 * x->inputs.count);
        run_horizontal(kernels, x, between.data, between.stride, &made, 0, rows);
        for (size_t r = 0; r < rows; r++, out += out_stride)
            memcpy(out, made.data + r * made.stride, 3 * x->count);
    }
    free(between.data);
    free(made.data);
    return rc;
}

// Runs both passes. out: y.count rows of 3 * x.count bytes.
static int run_step(const struct kernels *kernels, const struct step *step, const uint8_t *in,
                    size_t in_stride, uint8_t *out, size_t out_stride)
{
    if (step->vertical_first)
        return run_vertical_first(kernels, step, in, in_stride, out, out_stride);
    if (step->x.kind != PASS_HALVE || step->y.kind != PASS_HALVE)
        return run_horizontal_first(kernels, step, in, in_stride, out, out_stride);
    for (size_t i = 0; i < step->y.count; i++)
        kernels->halve_both(in + 2 * i * in_stride, in_stride, out + i * out_stride, step->x.count);
    return 0;
}

static void steps_free(struct step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pass_free(&steps[i].x);
        pass_free(&steps[i].y);
    }
}

// An image of (width, height) scaled so that its shorter side is `size`, and its centre crop.
struct crop {
    size_t width, height; // of the whole scaled image
    struct span x, y;
};

static struct crop crop_of_image(size_t width, size_t height, size_t size)
{
    double scale = (double)size / (double)(width < height ? width : height);
    size_t w = (size_t)rint((double)width * scale), h = (size_t)rint((double)height * scale);
    return (struct crop){w, h, {(w - size) / 2, size}, {(h - size) / 2, size}};
}

static size_t count_halvings(size_t width, size_t height, size_t size)
{
    size_t n = 0;
    while ((width < height ? width : height) >> n >= 2 * size)
        n++;
    return n;
}

static bool is_vertical_first(enum resample_order order, size_t width, size_t height,
                              size_t out_width, size_t out_height)
{
    return order == RESAMPLE_PILLOW13 && height > out_height &&
           (int64_t)(height - out_height) > 2 * ((int64_t)width - (int64_t)out_width);
}

// Each step makes only what the next one needs, so the steps are planned in reverse order.
static int steps_init(struct step *steps, size_t halvings, size_t width, size_t height, size_t size,
                      enum resample_order order)
{
    size_t w = width >> halvings, h = height >> halvings;
    struct crop crop = crop_of_image(w, h, size);
    struct step *step = &steps[halvings];
    step->vertical_first = is_vertical_first(order, w, h, crop.width, crop.height);
    if (pass_init(&step->x, &filter_bicubic, w, crop.width, crop.x) < 0 ||
        pass_init(&step->y, &filter_bicubic, h, crop.height, crop.y) < 0)
        return -1;
    for (size_t i = halvings; i-- > 0; step = &steps[i]) {
        if (pass_init(&steps[i].x, &filter_box, width >> i, width >> (i + 1), step->x.inputs) < 0 ||
            pass_init(&steps[i].y, &filter_box, height >> i, height >> (i + 1), step->y.inputs) < 0)
            return -1;
        steps[i].vertical_first =
            is_vertical_first(order, width >> i, height >> i, width >> (i + 1), height >> (i + 1));
    }
    return 0;
}

struct resample_window resample_crop_window(size_t width, size_t height, size_t size)
{
    size_t halvings = count_halvings(width, height, size);
    size_t w = width >> halvings, h = height >> halvings;
    struct crop crop = crop_of_image(w, h, size);
    struct span x = outputs_span(&filter_bicubic, w, crop.width, crop.x);
    struct span y = outputs_span(&filter_bicubic, h, crop.height, crop.y);
    for (size_t i = halvings; i-- > 0;) {
        x = outputs_span(&filter_box, width >> i, width >> (i + 1), x);
        y = outputs_span(&filter_box, height >> i, height >> (i + 1), y);
    }
    // Vectors load past the end of a row; at the image's right edge that is the start of the next
    // row.
    size_t right = width - x.first, below = height - y.first;
    x.count += RESAMPLE_PADDING / 3 + 1;
    y.count += 1;
    return (struct resample_window){x.first, y.first, x.count < right ? x.count : right,
                                    y.count < below ? y.count : below};
}

static int crop_with(const struct kernels *kernels, const uint8_t *rgb, size_t width, size_t height,
                     size_t size, enum resample_order order, uint8_t *out)
{
    size_t halvings = count_halvings(width, height, size);
    struct step steps[HALVINGS_MAX] = {0};
    struct canvas image = {0};
    int rc = steps_init(steps, halvings, width, height, size, order);
    size_t stride = 3 * width;
    const uint8_t *in = rgb + steps[0].y.inputs.first * stride + 3 * steps[0].x.inputs.first;
    for (size_t i = 0; i < halvings && !rc; i++) {
        struct canvas next = {0};
        rc = canvas_init(&next, steps[i].x.count, steps[i].y.count) < 0 ||
             run_step(kernels, &steps[i], in, stride, next.data, next.stride) < 0;
        free(image.data);
        image = next;
        in = image.data;
        stride = image.stride;
    }
    if (!rc)
        rc = run_step(kernels, &steps[halvings], in, stride, out, 3 * size);
    free(image.data);
    steps_free(steps, halvings + 1);
    return rc ? -1 : 0;
}

int resample_crop(const uint8_t *rgb, size_t width, size_t height, size_t size,
                  enum resample_order order, uint8_t *out)
{
    return crop_with(kernels_fastest(), rgb, width, height, size, order, out);
}

int resample_crop_plain(const uint8_t *rgb, size_t width, size_t height, size_t size,
                        enum resample_order order, uint8_t *out)
{
    return crop_with(&kernels_plain, rgb, width, height, size, order, out);
}
