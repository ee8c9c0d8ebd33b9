// Schemas describe what a stream holds; batches hold its records. SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/tstream/tstream-format.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define RECORD_SIZE_MAX (TSTREAM_CONTENT_MAX - TSTREAM_HEADER_MAX)

struct schema *schema_new(const char *kind)
{
    struct schema *schema = mem_new(1, sizeof *schema);
    if (!schema)
        return NULL;
    schema->metadata = json_object();
    if (!schema->metadata || schema_set(schema, "format", "tstream") < 0 ||
        schema_set(schema, "version", TSTREAM_VERSION) < 0 ||
        schema_set(schema, "kind", "%s", kind) < 0) {
        schema_free(schema);
        return NULL;
    }
    return schema;
}

struct schema *schema_copy(const struct schema *schema)
{
    struct schema *copy = mem_new(1, sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *schema;
    copy->metadata = json_deep_copy(schema->metadata);
    if (!copy->metadata) {
        free(copy);
        error_set(STATUS_INTERNAL, "out of memory");
        return NULL;
    }
    return copy;
}

void schema_free(struct schema *schema)
{
    if (!schema)
        return;
    json_decref(schema->metadata);
    free(schema);
}

static bool is_valid_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
    if (!*name || !strchr(letters, *name) || strlen(name) > TENSOR_NAME_MAX)
        return false;
    size_t n = 0;
    while (name[n] && (strchr(letters, name[n]) || strchr("0123456789.", name[n])))
        n++;
    return !name[n] && strcmp(name, TSTREAM_ROWS_NAME) != 0;
}

static int field_set(struct field *field, const char *name, enum dtype dtype, const size_t *shape,
                     size_t rank)
{
    *field = (struct field){.dtype = dtype, .rank = rank};
    if (!is_valid_name(name))
        return error_set(STATUS_DATA,
                         "a tensor's name is not of the form "
                         "[A-Za-z_][A-Za-z0-9_.]{0,63}, or is \"" TSTREAM_ROWS_NAME "\"");
    strcpy(field->name, name);
    if (rank > TENSOR_RANK_MAX - 1)
        return error_set(STATUS_DATA, "tensor \"%s\": rank %zu, at most %d", name, rank + 1,
                         TENSOR_RANK_MAX);
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] == 0)
            return error_set(STATUS_DATA, "tensor \"%s\": records of size 0", name);
        field->shape[i] = shape[i];
    }
    if (!shape_count(shape, rank, &field->count) ||
        !size_mul(field->count, dtype_size(dtype), &field->size) || field->size > RECORD_SIZE_MAX)
        return error_set(STATUS_DATA, "tensor \"%s\": a record takes more than %zu bytes", name,
                         RECORD_SIZE_MAX);
    return 0;
}

static int insert_field(struct schema *schema, size_t at, const struct field *field)
{
    if (schema->n_fields == SCHEMA_FIELDS_MAX)
        return error_set(STATUS_DATA, "more than %d tensors", SCHEMA_FIELDS_MAX);
    if (schema_find(schema, field->name) >= 0)
        return error_set(STATUS_DATA, "duplicate tensor \"%s\"", field->name);
    if (schema_record_size(schema) + field->size > RECORD_SIZE_MAX)
        return error_set(STATUS_DATA, "tensor \"%s\" makes a record take more than %zu bytes",
                         field->name, RECORD_SIZE_MAX);
    memmove(&schema->fields[at + 1], &schema->fields[at],
            (schema->n_fields - at) * sizeof *schema->fields);
    schema->fields[at] = *field;
    schema->n_fields++;
    return 0;
}

int schema_append(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
                  size_t rank)
{
    struct field field;
    if (field_set(&field, name, dtype, shape, rank) < 0)
        return -1;
    size_t n = schema->n_fields;
    if (n && dtype_size(dtype) > dtype_size(schema->fields[n - 1].dtype))
        return error_set(STATUS_DATA, "tensor \"%s\" comes after one with smaller elements", name);
    return insert_field(schema, n, &field);
}

int schema_add(struct schema *schema, const char *name, enum dtype dtype, const size_t *shape,
               size_t rank)
{
    struct field field;
    if (field_set(&field, name, dtype, shape, rank) < 0)
        return -1;
    size_t at = 0;
    while (at < schema->n_fields && dtype_size(schema->fields[at].dtype) >= dtype_size(dtype))
        at++;
    return insert_field(schema, at, &field);
}

int schema_remove(struct schema *schema, const char *name)
{
    int i = schema_find(schema, name);
    if (i < 0)
        return -1;
    schema->n_fields--;
    memmove(&schema->fields[i], &schema->fields[i + 1],
            (schema->n_fields - (size_t)i) * sizeof *schema->fields);
    return 0;
}

int schema_find(const struct schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n_fields; i++)
        if (!strcmp(schema->fields[i].name, name))
            return (int)i;
    return -1;
}

// Lists the fields, as in "image U8 [256, 256, 3], label I64 []", cut to size.
static char *fields_text(const struct schema *schema, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < schema->n_fields && used < size; i++) {
        const struct field *field = &schema->fields[i];
        char shape[128];
        used += (size_t)snprintf(text + used, size - used, "%s%s %s %s", i ? ", " : "", field->name,
                                 dtype_name(field->dtype),
                                 shape_text(field->shape, field->rank, shape, sizeof shape));
    }
    return text;
}

int schema_expect(const struct schema *schema, const char *name, enum dtype dtype, size_t rank)
{
    int i = schema_find(schema, name);
    if (i >= 0 && schema->fields[i].dtype == dtype && schema->fields[i].rank == rank)
        return i;
    char text[400];
    return error_set(STATUS_DATA,
                     "expected a tensor \"%s\" of %s with %zu dimensions per record, found %s",
                     name, dtype_name(dtype), rank, fields_text(schema, text, sizeof text));
}

const char *schema_get(const struct schema *schema, const char *key)
{
    return json_string_value(json_object_get(schema->metadata, key));
}

int schema_set(struct schema *schema, const char *key, const char *format, ...)
{
    if (!format) {
        json_object_del(schema->metadata, key);
        return 0;
    }
    char *text;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        return error_set(STATUS_INTERNAL, "out of memory");
    int rc = json_object_set_new(schema->metadata, key, json_string(text));
    free(text);
    return rc < 0 ? error_set(STATUS_DATA, "metadata \"%s\": the value is not UTF-8", key) : 0;
}

bool text_to_u64(const char *text, uint64_t *value)
{
    if (!text || !*text || (*text == '0' && text[1]))
        return false;
    *value = 0;
    for (; *text; text++)
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*text - '0'), value))
            return false;
    return true;
}

bool schema_number(const struct schema *schema, const char *key, uint64_t *value)
{
    return text_to_u64(schema_get(schema, key), value);
}

bool schema_count(const struct schema *schema, uint64_t *count)
{
    return schema_number(schema, "count", count);
}

size_t schema_record_size(const struct schema *schema)
{
    size_t size = 0;
    for (size_t i = 0; i < schema->n_fields; i++)
        size += schema->fields[i].size;
    return size;
}

size_t schema_rows_aim(const struct schema *schema)
{
    size_t rows = TSTREAM_FRAME_AIM / (schema_record_size(schema) + !schema->n_fields);
    return rows ? rows : 1;
}

static bool is_about_data(const char *key)
{
    return strcmp(key, "count") != 0 && strncmp(key, "pg.", 3) != 0 &&
           strncmp(key, "shard.", 6) != 0;
}

static int check_metadata(const struct schema *a, const struct schema *b)
{
    const char *key;
    json_t *value;
    json_object_foreach(a->metadata, key, value)
    {
        const char *other = schema_get(b, key);
        if (is_about_data(key) && (!other || strcmp(json_string_value(value), other) != 0))
            return error_set(STATUS_DATA, "metadata \"%.64s\" differs: \"%.200s\" and \"%.200s\"",
                             key, json_string_value(value), other ? other : "(none)");
    }
    json_object_foreach(b->metadata, key, value)
    {
        if (is_about_data(key) && !schema_get(a, key))
            return error_set(STATUS_DATA, "metadata \"%.64s\" differs: (none) and \"%.200s\"", key,
                             json_string_value(value));
    }
    return 0;
}

static bool field_equal(const struct field *a, const struct field *b)
{
    return !strcmp(a->name, b->name) && a->dtype == b->dtype && a->rank == b->rank &&
           (!a->rank || !memcmp(a->shape, b->shape, a->rank * sizeof *a->shape));
}

int schema_check_same(const struct schema *a, const struct schema *b)
{
    bool same = a->n_fields == b->n_fields;
    for (size_t i = 0; same && i < a->n_fields; i++)
        same = field_equal(&a->fields[i], &b->fields[i]);
    if (same)
        return check_metadata(a, b);
    char text_a[400], text_b[400];
    return error_set(STATUS_DATA, "the tensors differ: %s and %s",
                     fields_text(a, text_a, sizeof text_a), fields_text(b, text_b, sizeof text_b));
}

// Replaces the bytes outside ASCII if the text is not UTF-8: a program's arguments may be in any
// encoding, or be cut within a character.
static json_t *json_string_any(char *text)
{
    json_t *string = json_string(text);
    for (char *c = text; !string && *c; c++)
        if (*c & 0x80)
            *c = '?';
    return string ? string : json_string(text);
}

int schema_add_provenance(struct schema *schema, const char *entry)
{
    if (!entry)
        return 0;
    char key[32], *text = mem_strdup(entry);
    if (!text)
        return -1;
    size_t n = 0;
    do
        snprintf(key, sizeof key, "pg.%zu", n++);
    while (schema_get(schema, key));
    int rc = json_object_set_new(schema->metadata, key, json_string_any(text));
    free(text);
    return rc < 0 ? error_set(STATUS_INTERNAL, "out of memory") : 0;
}

int schema_build_header(const struct schema *schema, size_t rows, const json_t *metadata,
                        int64_t n_frames, uint8_t **header, size_t *size)
{
    struct safetensor tensors[SCHEMA_FIELDS_MAX + 1];
    size_t n = 0;
    if (n_frames != NO_ROWS_TENSOR)
        tensors[n++] = (struct safetensor){
            .name = TSTREAM_ROWS_NAME, .dtype = DTYPE_I64, .rank = 1, .shape = {(size_t)n_frames}};
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct field *field = &schema->fields[i];
        struct safetensor *tensor = &tensors[n++];
        *tensor = (struct safetensor){
            .name = field->name, .dtype = field->dtype, .rank = field->rank + 1, .shape = {rows}};
        memcpy(tensor->shape + 1, field->shape, field->rank * sizeof *field->shape);
    }
    if (safetensors_build_header(tensors, n, metadata, header, size) < 0)
        return -1;
    if (*size > TSTREAM_HEADER_MAX) {
        free(*header);
        return error_set(STATUS_DATA, "the metadata takes %zu bytes, at most %zu", *size,
                         TSTREAM_HEADER_MAX);
    }
    return 0;
}

size_t schema_header_room(const struct schema *schema)
{
    static const char fixed[] = "{\"__metadata__\":{\"first\":\"18446744073709551615\"}}";
    static const char tensor[] = ",\"\":{\"dtype\":\"BOOL\",\"shape\":[],\"data_offsets\":[,]}";
    size_t room = 8 + sizeof fixed;
    for (size_t i = 0; i < schema->n_fields; i++)
        room += sizeof tensor + strlen(schema->fields[i].name) +
                10 * (schema->fields[i].rank + 3); // no size or offset has more than 9 digits
    return (room + TSTREAM_ALIGNMENT - 1) / TSTREAM_ALIGNMENT * TSTREAM_ALIGNMENT;
}

struct batch *batch_new(const struct schema *schema, size_t rows)
{
    size_t room = schema_header_room(schema), size;
    if (!size_mul(rows, schema_record_size(schema), &size) || size > TSTREAM_CONTENT_MAX - room) {
        error_set(STATUS_DATA, "%zu records of %zu bytes exceed the %zu bytes of a frame", rows,
                  schema_record_size(schema), TSTREAM_CONTENT_MAX);
        return NULL;
    }
    struct batch *batch = mem_new(1, sizeof *batch);
    if (!batch)
        return NULL;
    batch->rows = rows;
    // Aligned by hand: aligned_alloc can't reuse the memory of a freed batch of the same size.
    batch->document_size = room + size + TSTREAM_ALIGNMENT;
    batch->document = malloc(batch->document_size);
    if (!batch->document) {
        free(batch);
        error_set(STATUS_INTERNAL, "out of memory: %zu bytes for a batch", room + size);
        return NULL;
    }
    uint8_t *data = batch->document + room;
    data += -(uintptr_t)data & (TSTREAM_ALIGNMENT - 1);
    for (size_t i = 0; i < schema->n_fields; i++) {
        batch->data[i] = data;
        data += rows * schema->fields[i].size;
    }
    return batch;
}

int batch_truncate(const struct schema *schema, struct batch *batch, size_t rows)
{
    if (rows > batch->rows)
        return error_set(STATUS_INTERNAL, "a batch of %zu records can't be cut to %zu", batch->rows,
                         rows);
    for (size_t i = 1; i < schema->n_fields; i++) {
        uint8_t *data = batch->data[i - 1] + rows * schema->fields[i - 1].size;
        memmove(data, batch->data[i], rows * schema->fields[i].size);
        batch->data[i] = data;
    }
    batch->rows = rows;
    return 0;
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    free(batch->document);
    free(batch);
}
