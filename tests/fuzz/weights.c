// Fuzz targets that read weights: safetensors, weights, pickle and convert.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/convert-weights/convert.h"
#include "formats/containers/safetensors.h"
#include "formats/weights/dit-file.h"
#include "formats/weights/weights.h"
#include "tests/forge.h"
#include "tests/fuzz/fuzz.h"

static void read_bytes(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        (void)*(const volatile uint8_t *)(data + i);
}

// A document from the text of its header, with `size` bytes of data.
static struct forged make_document(struct fuzz_bytes header, size_t size, int fill)
{
    struct forged document = {0};
    forge_number(&document, 8, header.size);
    forge_bytes(&document, header.data, header.size);
    uint8_t *data = malloc(size + 1);
    fuzz_promise(data, "there is memory for a document");
    memset(data, fill, size);
    forge_bytes(&document, data, size);
    free(data);
    return document;
}

// A byte of flags, and a document, or the text of its header alone.
void fuzz_safetensors(const uint8_t *data, size_t size)
{
    enum { HEADER = 1, LONGER = 2 };
    struct fuzz_bytes from = {data, size};
    size_t flags = fuzz_number(&from, 1), longer = 0;
    struct forged bytes = {0};
    if (flags & HEADER)
        bytes = make_document(from, (flags >> 1) * 8, 0x3c);
    else
        forge_bytes(&bytes, from.data, from.size);
    if (!(flags & HEADER) && flags & LONGER)
        longer = flags >> 2;
    struct safetensors document;
    if (fuzz_succeeded(safetensors_parse(&document, bytes.data, bytes.size, bytes.size + longer,
                                         (size_t)2 << 20))) {
        for (size_t i = 0; document.data && i < document.n_tensors; i++)
            read_bytes(safetensors_data(&document, &document.tensors[i]), document.tensors[i].size);
        safetensors_close(&document);
    }
    free(bytes.data);
}

static void use_weight(const struct weight *weight)
{
    size_t rows = weight_rows(weight), count = weight_count(weight);
    size_t size = count * dtype_size(weight->dtype);
    uint8_t *values = malloc(2 * size + 1);
    float *floats = malloc(count * sizeof *floats + 1);
    fuzz_promise(values && floats, "there is memory for a tensor");
    weight_read(weight, 0, rows, values);
    fuzz_succeeded(weight_read_floats(weight, 0, rows, floats));
    if (rows > 1) {
        size_t row = size / rows;
        weight_read(weight, rows - 1, 1, values + size);
        fuzz_promise(memcmp(values + size, values + size - row, row) == 0,
                     "a row is the same alone");
    }
    const float *place = weight_in_place(weight);
    fuzz_promise(!place || count == 0 || memcmp(place, values, size) == 0,
                 "a tensor is the same in its place");
    free(values);
    free(floats);
}

// A file of weights.
void fuzz_weights(const uint8_t *data, size_t size)
{
    struct weights weights;
    size_t budget = (size_t)8 << 20;
    fuzz_write("weights", data, size);
    char *path = fuzz_path("weights");
    if (fuzz_succeeded(weights_open(&weights, path))) {
        for (size_t i = 0; i < weights.n_weights; i++) {
            const struct weight *weight = &weights.all[i];
            fuzz_promise(weights_find(&weights, weight->name) == weight, "tensors are found");
            size_t need = weight_count(weight) * 16;
            if (need <= budget) {
                budget -= need;
                use_weight(weight);
            }
        }
        weights_close(&weights);
    }
    free(path);
}

// The pickle of a file of PyTorch with a storage of 24 floats.
void fuzz_pickle(const uint8_t *data, size_t size)
{
    struct forged file = forge_zip(data, size);
    fuzz_weights(file.data, file.size);
    free(file.data);
}

// The largest offset in the text of a header, up to 4 MiB.
static size_t last_offset(struct fuzz_bytes header)
{
    static const char key[] = "data_offsets\":[";
    size_t most = 0;
    for (size_t i = 0; i + sizeof key - 1 <= header.size; i++) {
        if (memcmp(header.data + i, key, sizeof key - 1) != 0)
            continue;
        size_t at = i, value = 0;
        while (at < header.size && header.data[at] != ',')
            at++;
        for (at++; at < header.size && header.data[at] >= '0' && header.data[at] <= '9'; at++)
            value = value <= 4 << 20 ? value * 10 + header.data[at] - '0' : value;
        if (value <= 4 << 20 && value > most)
            most = value;
    }
    return most;
}

static void use_dit_file(const char *path)
{
    struct dit_file file;
    uint64_t number;
    if (!fuzz_succeeded(dit_file_open(&file, path, NULL)))
        return;
    fuzz_succeeded(dit_file_check(&file));
    fuzz_succeeded(dit_file_updates(&file, &number));
    fuzz_succeeded(dit_file_number(&file, "step", &number));
    const float **values = dit_file_in_place(&file, DIT_WEIGHTS_EMA);
    if (!values)
        fuzz_check_error();
    free(values);
    if (file.layout.size < 1 << 20) {
        float *weights = calloc(file.layout.size + 1, sizeof *weights);
        fuzz_promise(weights, "there is memory for small weights");
        fuzz_succeeded(dit_file_initial_weights(&file, &file.config, &file.layout, false, weights));
        free(weights);
    }
    dit_file_close(&file);
}

// A byte of flags, one of options, perhaps a config.json after its size, and a file of weights or
// the text of its header alone.
void fuzz_convert(const uint8_t *data, size_t size)
{
    enum { HEADER = 1, CONFIG = 2, NOT_ZERO = 4, TO_TORCH = 64 };
    static const enum dtype dtypes[] = {DTYPE_COUNT, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    static const char *const sets[] = {NULL, "ema", "model", "all"};
    struct fuzz_bytes from = {data, size}, config = {0};
    size_t flags = fuzz_number(&from, 1), how = fuzz_number(&from, 1);
    if (flags & CONFIG)
        config = fuzz_take(&from, fuzz_number(&from, 1) * 4);
    char *json = fuzz_path("config.json");
    unlink(json);
    if (config.size)
        fuzz_write("config.json", config.data, config.size);
    if (flags & HEADER) {
        struct forged file = make_document(from, last_offset(from), flags & NOT_ZERO ? 0x3c : 0);
        fuzz_write("weights", file.data, file.size);
        free(file.data);
    } else {
        fuzz_write("weights", from.data, from.size);
    }
    char *in = fuzz_path("weights"),
         *out = fuzz_path(how & TO_TORCH ? "out.pt" : "out.safetensors");
    if (access(out, F_OK) < 0) // a few bytes may make a large file
        fuzz_promise(symlink("/dev/null", out) == 0, "links can be made");
    struct convert_options options = {
        .names = (int)(how & 3) - 1, .which = sets[how >> 2 & 3], .dtype = dtypes[how >> 4 & 3]};
    use_dit_file(in);
    fuzz_succeeded(convert_dit(in, out, &options));
    fuzz_succeeded(convert_kl(in, out, &options));
    free(json);
    free(in);
    free(out);
}
