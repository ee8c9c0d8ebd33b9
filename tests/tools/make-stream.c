// make-stream images|latents|nan N SIDE ROWS [KEY=TEXT]... writes a stream of N records for tests.
// SPDX-License-Identifier: MIT
//
// Each frame has ROWS records; the texts are put into the metadata. Images are smooth gradients
// between two colours; latents have 4 channels, a mean, and a standard deviation of 0.5 (with nan,
// the mean of record 5 is NaN). `label` is a record's index modulo 10, `id` its index.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/latents/latent-fields.h"
#include "formats/tstream/tstream.h"
#include "lib/base/error.h"
#include "lib/base/rng.h"

#define CHANNELS 4

static void paint(uint8_t *image, size_t side, uint64_t index)
{
    const struct rng rng = {.purpose = RNG_TEST, .sample = index};
    double slope = rng_uniform(&rng, 6);
    for (size_t i = 0; i < side * side * 3; i++) {
        size_t y = i / 3 / side, x = i / 3 % side, c = i % 3;
        double from = 255 * rng_uniform(&rng, c), to = 255 * rng_uniform(&rng, 3 + c);
        image[i] = (uint8_t)(from + (to - from) * (slope * x + (1 - slope) * y) / side);
    }
}

// A value in [0, 1/16) that is hard to compress, and that tests in other languages can compute.
static float value_of(size_t index, size_t k)
{
    uint32_t bits = (uint32_t)index * 2654435761u + (uint32_t)k * 2246822519u;
    return (float)(bits >> 12) / (1 << 24);
}

static void fill(const struct schema *schema, const struct batch *batch, size_t row, size_t index,
                 size_t side, bool nan)
{
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        uint8_t *to = batch->data[i] + row * field->size;
        if (strcmp(field->name, "image") == 0)
            paint(to, side, index);
        else if (strcmp(field->name, "label") == 0)
            memcpy(to, &(int64_t){(int64_t)(index % 10)}, field->size);
        else if (strcmp(field->name, "id") == 0)
            memcpy(to, &(uint32_t){(uint32_t)index}, field->size);
        else
            for (size_t k = 0; k < field->count; k++)
                ((float *)to)[k] = strcmp(field->name, "latent_std") == 0 ? 0.5f
                                   : nan && index == 5                    ? NAN
                                                                          : value_of(index, k);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: make-stream images|latents|nan N SIDE ROWS [KEY=TEXT]...\n");
        return 64;
    }
    bool images = strcmp(argv[1], "images") == 0, nan = strcmp(argv[1], "nan") == 0;
    size_t n = strtoul(argv[2], NULL, 10), side = strtoul(argv[3], NULL, 10);
    size_t rows = strtoul(argv[4], NULL, 10);
    struct latent_fields fields;
    struct schema *schema = schema_new(images ? "images" : "latents");
    bool good =
        schema && schema_set(schema, "count", "%zu", n) == 0 &&
        schema_set(schema, "classes", "[\"a\",\"b\"]") == 0 &&
        (images ? schema_add(schema, "image", DTYPE_U8, (const size_t[3]){side, side, 3}, 3)
                : latent_fields_add(schema, true, false, DTYPE_F32,
                                    (const size_t[3]){CHANNELS, side, side}, &fields)) == 0 &&
        schema_add(schema, "label", DTYPE_I64, NULL, 0) == 0 &&
        schema_add(schema, "id", DTYPE_U32, NULL, 0) == 0;
    for (int i = 5; i < argc && good; i++) {
        char *equals = strchr(argv[i], '=');
        good = equals != NULL;
        if (equals)
            *equals = 0;
        good = good && schema_set(schema, argv[i], "%s", equals + 1) == 0;
    }
    struct output *output = good ? output_open(NULL) : NULL;
    struct tstream_writer *out = output ? tstream_create(output, schema, 1, 1) : NULL;
    good = out != NULL;
    for (size_t at = 0; at < n && good; at += rows) {
        struct batch *batch = batch_new(schema, n - at < rows ? n - at : rows);
        for (size_t row = 0; batch && row < batch->rows; row++)
            fill(schema, batch, row, at + row, side, nan);
        good = batch && tstream_write(out, batch) == 0;
    }
    good = good && tstream_finish(out) == 0;
    schema_free(schema);
    if (!good)
        fprintf(stderr, "make-stream: %s\n", error_message());
    return good ? 0 : 70;
}
