// Fuzz targets that read streams: tstream, documents and latents. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "formats/latents/latents.h"
#include "formats/tstream/tstream-format.h"
#include "lib/base/hash.h"
#include "tests/forge.h"
#include "tests/fuzz/fuzz.h"

// What a way of reading finds.
struct found {
    bool good;
    uint64_t records, hash;
};

static void add_batch(struct found *found, const struct schema *schema, struct batch *batch)
{
    for (size_t i = 0; i < schema->n_fields; i++) {
        fuzz_promise((uintptr_t)batch->data[i] % dtype_size(schema->fields[i].dtype) == 0,
                     "records are aligned");
        found->hash = hash_bytes(found->hash, batch->data[i], batch->rows * schema->fields[i].size);
    }
    batch_free(batch);
}

static struct found read_in_order(const char *path)
{
    struct found found = {.hash = HASH_START};
    struct tstream_reader *reader = tstream_open(path, 1);
    struct batch *batch;
    int rc = reader ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0) {
        fuzz_promise(batch->first == found.records, "batches follow each other");
        found.records += batch->rows;
        add_batch(&found, tstream_schema(reader), batch);
    }
    found.good = fuzz_succeeded(rc);
    tstream_close(reader);
    return found;
}

static struct found read_at_random(const char *path)
{
    struct found found = {.hash = HASH_START};
    struct tstream_file *file = tstream_file_open(path);
    struct batch *batch;
    uint64_t hash;
    if (!file) {
        fuzz_check_error();
        return found;
    }
    found.records = tstream_file_records(file);
    fuzz_succeeded(tstream_file_hash(file, &hash));
    found.good = true;
    for (size_t i = 0; found.good && i < tstream_file_frames(file) && i < 4096; i++) {
        found.good = fuzz_succeeded(tstream_file_read(file, i, &batch));
        if (found.good) {
            fuzz_promise(batch->rows ==
                             tstream_file_first(file, i + 1) - tstream_file_first(file, i),
                         "a frame has as many records as the file says");
            add_batch(&found, tstream_file_schema(file), batch);
        }
    }
    tstream_file_close(file);
    return found;
}

// A stream's bytes.
void fuzz_tstream(const uint8_t *data, size_t size)
{
    fuzz_write("stream", data, size);
    char *path = fuzz_path("stream");
    struct found order = read_in_order(path), random = read_at_random(path);
    fuzz_promise(!order.good ||
                     (random.good && random.records == order.records && random.hash == order.hash),
                 "a stream that reads well in order reads alike at random");
    free(path);
}

// Adds a zstd frame that holds the document of this header and data. Its sizes go to *entry.
static void add_document(struct forged *stream, struct fuzz_bytes header, struct fuzz_bytes data,
                         size_t alignment, struct seek_entry *entry)
{
    struct forged document = {0};
    size_t start = (8 + header.size + alignment - 1) / alignment * alignment;
    forge_number(&document, 8, start - 8);
    forge_bytes(&document, header.data, header.size);
    while (document.size < start)
        forge_bytes(&document, " ", 1);
    forge_bytes(&document, data.data, data.size);

    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t bound = ZSTD_compressBound(document.size);
    uint8_t *frame = malloc(bound);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, -50);
    size_t n = ZSTD_compress2(context, frame, bound, document.data, document.size);
    fuzz_promise(!ZSTD_isError(n), "zstd compresses");
    forge_bytes(stream, frame, n);
    *entry = (struct seek_entry){(uint32_t)n, (uint32_t)document.size};
    ZSTD_freeCCtx(context);
    free(frame);
    free(document.data);
}

// Makes a stream of documents: a byte of flags and two numbers of 16 bits come before each. A flag
// puts a seek table there instead, of the documents since the last one; two more make it wrong by
// the numbers. Else the numbers are the sizes of the header and the data that follow.
static struct forged make_documents(struct fuzz_bytes from)
{
    enum { UNALIGNED = 4, TABLE = 128, WRONG_SIZE = 1, WRONG_CONTENT = 2, MOST = 62 };
    struct forged stream = {0};
    struct seek_entry entries[MOST];
    size_t n = 0;
    while (from.size && n < MOST) {
        size_t flags = fuzz_number(&from, 1), first = fuzz_number(&from, 2),
               second = fuzz_number(&from, 2);
        if (flags & TABLE) {
            uint8_t *table;
            size_t size;
            if (n && flags & WRONG_SIZE)
                entries[n - 1].size ^= (uint32_t)first;
            if (n && flags & WRONG_CONTENT)
                entries[0].content ^= (uint32_t)second;
            if (seek_table_build(entries, n, &table, &size) == 0) {
                forge_bytes(&stream, table, size);
                free(table);
            }
            n = 0;
            continue;
        }
        struct fuzz_bytes header = fuzz_take(&from, first);
        add_document(&stream, header, fuzz_take(&from, second), flags & UNALIGNED ? 1 : 64,
                     &entries[n++]);
    }
    return stream;
}

// The documents of a stream, not compressed.
void fuzz_documents(const uint8_t *data, size_t size)
{
    struct forged stream = make_documents((struct fuzz_bytes){data, size});
    fuzz_tstream(stream.data, stream.size);
    free(stream.data);
}

static void use_latents(struct latents *latents, uint64_t position)
{
    enum { ROWS = 4 };
    const struct latents_shape *shape = latents_shape(latents);
    size_t count = shape->channels * shape->height * shape->width;
    if (count > 1 << 20)
        return;
    float *mean = malloc(ROWS * count * sizeof *mean), *std = malloc(ROWS * count * sizeof *std);
    int64_t labels[ROWS];
    fuzz_promise(mean && std, "there is memory for four latents");
    float *spread = shape->spread ? std : NULL;
    for (size_t i = 0; i < 4; i++)
        fuzz_succeeded((int)latents_read(latents, 3, mean, spread, labels));
    fuzz_succeeded(latents_seek(latents, position));
    fuzz_succeeded((int)latents_read(latents, 2, mean, spread, labels));
    json_t *files = latents_describe(latents);
    char *text = files ? json_dumps(files, 0) : NULL;
    fuzz_promise(!text || latents_compare(latents, text) == 0, "data is the same as itself");
    const char *other = schema_get(latents_schema(latents), "classes");
    if (other)
        fuzz_succeeded(latents_compare(latents, other));
    json_decref(files);
    free(text);
    free(mean);
    free(std);
}

// A byte of flags, the size of the first stream's documents in 16 bits, and two streams' documents.
void fuzz_latents(const uint8_t *data, size_t size)
{
    enum { BOTH = 1, LITTLE_MEMORY = 2, CACHE = 4, PARTIAL = 8 };
    struct fuzz_bytes from = {data, size};
    size_t flags = fuzz_number(&from, 1), n = fuzz_number(&from, 2);
    static const char *const names[] = {"first", "second"};
    char *paths[3] = {0};
    for (size_t i = 0; i < (flags & BOTH ? 2 : 1); i++) {
        struct forged stream = make_documents(fuzz_take(&from, i ? from.size : n));
        fuzz_write(names[i], stream.data, stream.size);
        paths[i] = fuzz_path(names[i]);
        free(stream.data);
    }
    struct latents *latents =
        latents_open(paths, &(struct latents_options){
                                .seed = flags,
                                .memory = (size_t)1 << (flags & LITTLE_MEMORY ? 10 : 24),
                                .cache = flags & CACHE,
                                .partial = flags & PARTIAL,
                                .threads = 1,
                            });
    if (latents)
        use_latents(latents, flags * 7);
    else
        fuzz_check_error();
    latents_close(latents);
    free(paths[0]);
    free(paths[1]);
}
