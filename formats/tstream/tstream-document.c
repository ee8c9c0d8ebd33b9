// Checks documents and seek tables against the rules of tstream(5). SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// Checks what tstream(5) asks of a document beyond safetensors.
static int check_document(const struct frame *frame)
{
    const struct safetensors *doc = &frame->doc;
    if (doc->header_size % TSTREAM_ALIGNMENT)
        return error_set(STATUS_DATA,
                         "the data begins at byte %zu of the document, not at a multiple of %d",
                         doc->header_size, TSTREAM_ALIGNMENT);
    const uint8_t *end = frame->document + doc->header_size;
    while (end[-1] == ' ')
        end--;
    if (end[-1] != '}')
        return error_set(STATUS_DATA, "the header is not padded with spaces");
    for (size_t i = 0; i < doc->n_tensors; i++) {
        if (doc->tensors[i].rank == 0)
            return error_set(STATUS_DATA, "tensor %zu is a scalar: it has no rows", i);
        if (i && dtype_size(doc->tensors[i].dtype) > dtype_size(doc->tensors[i - 1].dtype))
            return error_set(STATUS_DATA, "tensor %zu has larger elements than the one before", i);
    }
    return 0;
}

int frame_decode(struct frame *frame, struct contexts *contexts)
{
    if (frame_decompress(frame, contexts) < 0)
        return -1;
    if (frame->is_table)
        return 0;
    if (safetensors_parse(&frame->doc, frame->document, frame->content, frame->content,
                          TSTREAM_HEADER_MAX - 8) < 0)
        return -1;
    return check_document(frame);
}

enum frame_kind frame_kind(const struct frame *frame)
{
    if (frame->is_table)
        return FRAME_TABLE;
    if (safetensors_get(&frame->doc, "format"))
        return FRAME_BEGIN;
    if (safetensors_get(&frame->doc, "first"))
        return FRAME_DATA;
    if (safetensors_get(&frame->doc, "records"))
        return FRAME_END;
    return FRAME_UNKNOWN;
}

const char *frame_kind_name(enum frame_kind kind)
{
    static const char *const names[] = {"a begin frame", "a data frame", "an end frame",
                                        "a seek table", "a document of unknown kind"};
    return names[kind];
}

struct schema *frame_schema(const struct frame *frame)
{
    const struct safetensors *doc = &frame->doc;
    const char *format = safetensors_get(doc, "format"), *version = safetensors_get(doc, "version");
    const char *kind = safetensors_get(doc, "kind");
    if (strcmp(format, "tstream") != 0 || !version || !kind) {
        error_set(STATUS_DATA, "the begin frame is not of a tensor stream");
        return NULL;
    }
    if (strcmp(version, TSTREAM_VERSION) != 0) {
        error_set(STATUS_DATA, "a tensor stream of version %.20s, expected " TSTREAM_VERSION,
                  version);
        return NULL;
    }
    struct schema *schema = schema_new(kind);
    if (!schema)
        return NULL;
    json_decref(schema->metadata);
    schema->metadata = json_incref(doc->metadata);
    if (strcmp(kind, "images") != 0 && strcmp(kind, "latents") != 0)
        error_set(STATUS_DATA, "a stream of \"%.64s\", expected images or latents", kind);
    else if (!doc->n_tensors)
        error_set(STATUS_DATA, "the begin frame has no tensors");
    else {
        size_t i = 0;
        for (; i < doc->n_tensors; i++) {
            const struct safetensor *tensor = &doc->tensors[i];
            if (tensor->shape[0] != 0) {
                error_set(STATUS_DATA, "the begin frame holds records");
                break;
            }
            if (schema_append(schema, tensor->name, tensor->dtype, tensor->shape + 1,
                              tensor->rank - 1) < 0)
                break;
        }
        if (i == doc->n_tensors)
            return schema;
    }
    schema_free(schema);
    return NULL;
}

// The document's tensors from number `at` on must be those of the schema, with `rows` rows each.
static int check_tensors(const struct frame *frame, const struct schema *schema, size_t at,
                         size_t rows)
{
    const struct safetensors *doc = &frame->doc;
    if (doc->n_tensors != schema->n_fields + at)
        return error_set(STATUS_DATA, "expected %zu tensors as in the begin frame, found %zu",
                         schema->n_fields, doc->n_tensors - at);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct safetensor *tensor = &doc->tensors[at + i];
        const struct field *field = &schema->fields[i];
        if (strcmp(tensor->name, field->name) != 0 || tensor->dtype != field->dtype ||
            tensor->rank != field->rank + 1 ||
            memcmp(tensor->shape + 1, field->shape, field->rank * sizeof *field->shape) != 0)
            return error_set(STATUS_DATA, "tensor %zu is not \"%s\" as in the begin frame", i,
                             field->name);
        if (tensor->shape[0] != rows)
            return error_set(STATUS_DATA, "tensor \"%s\" has %zu rows, expected %zu", field->name,
                             tensor->shape[0], rows);
    }
    return 0;
}

struct batch *frame_batch(struct frame *frame, const struct schema *schema, uint64_t first)
{
    struct safetensors *doc = &frame->doc;
    uint64_t found;
    size_t rows = doc->n_tensors ? doc->tensors[0].shape[0] : 0;
    if (check_tensors(frame, schema, 0, rows) < 0)
        return NULL;
    if (rows == 0 || json_object_size(doc->metadata) != 1 ||
        !text_to_u64(safetensors_get(doc, "first"), &found)) {
        error_set(STATUS_DATA, rows ? "the metadata must be \"first\" alone, and a number"
                                    : "a data frame without records");
        return NULL;
    }
    if (found != first) {
        error_set(STATUS_DATA,
                  "the frame begins with record %" PRIu64 ", expected %" PRIu64 " (%s)", found,
                  first, found > first ? "frames are missing" : "a frame is repeated");
        return NULL;
    }
    struct batch *batch = mem_new(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->rows = rows;
    for (size_t i = 0; i < schema->n_fields; i++)
        batch->data[i] = frame->document + doc->header_size + doc->tensors[i].offset;
    batch->document = frame->allocation;
    batch->document_size = frame->allocation_size;
    frame->allocation = frame->document = NULL;
    return batch;
}

const uint8_t *frame_end_rows(const struct frame *frame, const struct schema *schema, size_t n)
{
    const struct safetensors *doc = &frame->doc;
    uint64_t frames;
    if (!doc->n_tensors || strcmp(doc->tensors[0].name, TSTREAM_ROWS_NAME) != 0 ||
        doc->tensors[0].dtype != DTYPE_I64 || doc->tensors[0].rank != 1) {
        error_set(STATUS_DATA, "the end frame does not begin with the tensor \"rows\" of I64");
        return NULL;
    }
    if (check_tensors(frame, schema, 1, 0) < 0)
        return NULL;
    if (json_object_size(doc->metadata) != 2 ||
        !text_to_u64(safetensors_get(doc, "frames"), &frames)) {
        error_set(STATUS_DATA,
                  "the end frame's metadata must be \"records\" and \"frames\", and numbers");
        return NULL;
    }
    if (frames != n || doc->tensors[0].shape[0] != n) {
        error_set(STATUS_DATA,
                  "the end frame counts %" PRIu64 " data frames and lists %zu, found %zu", frames,
                  doc->tensors[0].shape[0], n);
        return NULL;
    }
    return frame->document + doc->header_size;
}

int frame_check_end(const struct frame *frame, const struct schema *schema, const int64_t *rows,
                    size_t n)
{
    const uint8_t *stated = frame_end_rows(frame, schema, n);
    uint64_t records, sum = 0;
    if (!stated)
        return -1;
    for (size_t i = 0; i < n; i++) {
        int64_t expected = (int64_t)get_le(stated + 8 * i, 8);
        if (expected != rows[i])
            return error_set(STATUS_DATA,
                             "the end frame states %" PRId64
                             " records in data frame %zu, found %" PRId64,
                             expected, i, rows[i]);
        sum += (uint64_t)rows[i];
    }
    if (!text_to_u64(safetensors_get(&frame->doc, "records"), &records) || records != sum)
        return error_set(STATUS_DATA, "the end frame does not count the %" PRIu64 " records found",
                         sum);
    return 0;
}

size_t seek_table_size(size_t n)
{
    return TSTREAM_TABLE_HEADER + n * sizeof(struct seek_entry) + TSTREAM_TABLE_FOOTER;
}

int seek_table_build(const struct seek_entry *entries, size_t n, uint8_t **bytes, size_t *size)
{
    *size = seek_table_size(n);
    uint8_t *at = *bytes = mem_new(*size, 1);
    if (!at)
        return -1;
    put_le(at, 4, TSTREAM_SKIPPABLE_MAGIC);
    put_le(at + 4, 4, (uint32_t)(*size - TSTREAM_TABLE_HEADER));
    for (size_t i = 0; i < n; i++) {
        put_le(at + 8 + 8 * i, 4, entries[i].size);
        put_le(at + 12 + 8 * i, 4, entries[i].content);
    }
    put_le(at + 8 + 8 * n, 4, (uint32_t)n);
    put_le(at + 8 + 8 * n + 5, 4, TSTREAM_SEEKABLE_MAGIC);
    return 0;
}

struct seek_entry seek_table_entry(const uint8_t *bytes, size_t i)
{
    return (struct seek_entry){(uint32_t)get_le(bytes + 8 + 8 * i, 4),
                               (uint32_t)get_le(bytes + 12 + 8 * i, 4)};
}

int seek_table_check(const struct frame *frame, const struct seek_entry *entries, size_t n)
{
    if (!frame->is_table)
        return error_set(STATUS_DATA, "expected a seek table");
    const uint8_t *end = frame->bytes + frame->size - TSTREAM_TABLE_FOOTER;
    if (frame->size != seek_table_size(n) || (uint32_t)get_le(end, 4) != n)
        return error_set(STATUS_DATA, "expected a seek table of %zu frames", n);
    if (end[4] || (uint32_t)get_le(end + 5, 4) != TSTREAM_SEEKABLE_MAGIC)
        return error_set(STATUS_DATA, "the seek table does not end as zstd's seekable format does");
    for (size_t i = 0; entries && i < n; i++) {
        struct seek_entry entry = seek_table_entry(frame->bytes, i);
        if (entry.size != entries[i].size || entry.content != entries[i].content)
            return error_set(STATUS_DATA,
                             "the seek table states %u bytes with a content of %u for frame %zu, "
                             "found %u and %u",
                             entry.size, entry.content, i, entries[i].size, entries[i].content);
    }
    return 0;
}
