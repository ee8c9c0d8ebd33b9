// Safetensors documents: headers are built and parsed, and malformed ones are refused.
// SPDX-License-Identifier: MIT
#include "formats/containers/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/error.h"
#include "tests/tap.h"

// A document of this header text and `size` bytes of data: 0, 1, 2, ...
static uint8_t *document(const char *header, size_t size, size_t *total)
{
    uint64_t length = strlen(header);
    uint8_t *bytes = malloc(8 + length + size);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < size; i++)
        bytes[8 + length + i] = (uint8_t)i;
    *total = 8 + length + size;
    return bytes;
}

static void test_build(void)
{
    struct safetensor tensors[] = {
        {.name = "a", .dtype = DTYPE_F32, .rank = 2, .shape = {2, 3}},
        {.name = "scalar", .dtype = DTYPE_F32},
        {.name = "b.weight", .dtype = DTYPE_U8, .rank = 1, .shape = {5}},
    };
    json_t *metadata = json_pack("{s:s}", "epoch", "3");
    uint8_t *bytes;
    size_t header_size;
    ok(!safetensors_build_header(tensors, 3, metadata, &bytes, &header_size), "a header is built");
    json_decref(metadata);
    ok(header_size % 64 == 0, "the header's size is a multiple of 64");
    ok(tensors[1].offset == 24 && tensors[2].offset == 28 && tensors[2].size == 5,
       "building a header sets offsets and sizes");
    bytes = realloc(bytes, header_size + 33);
    memset(bytes + header_size, 0, 33);
    memcpy(bytes + header_size, &(float){1.5f}, 4);
    struct safetensors doc;
    ok(!safetensors_parse(&doc, bytes, header_size + 33, header_size + 33, 1000) &&
           doc.n_tensors == 3 && doc.header_size == header_size && doc.data_size == 33,
       "the header that was built is parsed");
    const struct safetensor *b = &doc.tensors[2];
    ok(strcmp(b->name, "b.weight") == 0 && b->dtype == DTYPE_U8 && b->rank == 1 &&
           b->shape[0] == 5 && b->offset == 28,
       "a parsed tensor has its name, type, shape and offset");
    ok(!strcmp(safetensors_get(&doc, "epoch"), "3") && !safetensors_get(&doc, "x"),
       "safetensors_get finds metadata, and gives NULL for a missing key");
    safetensors_close(&doc);
    ok(!safetensors_parse(&doc, bytes, header_size, header_size + 33, 1000) && !doc.data,
       "a document is parsed without its data");
    safetensors_close(&doc);
    ok(safetensors_parse(&doc, bytes, header_size - 1, header_size + 33, 1000) == -1,
       "a header that is cut short is refused");
    free(bytes);

    // A tensor of this name would be taken for the metadata.
    struct safetensor hidden[] = {{.name = "__metadata__", .dtype = DTYPE_U8}};
    ok(safetensors_build_header(hidden, 1, NULL, &bytes, &header_size) && !bytes,
       "a header that its reader refuses is not built: %s", error_message());
    struct safetensor twice[] = {{.name = "a", .dtype = DTYPE_U8},
                                 {.name = "a", .dtype = DTYPE_U8}};
    ok(safetensors_build_header(twice, 2, NULL, &bytes, &header_size) &&
           strstr(error_message(), "\"a\""),
       "building refuses two tensors of one name");
    struct safetensor rising[] = {{.name = "a", .dtype = DTYPE_U8},
                                  {.name = "b", .dtype = DTYPE_F16}};
    ok(safetensors_build_header(rising, 2, NULL, &bytes, &header_size) &&
           strstr(error_message(), "larger elements"),
       "building refuses rising element sizes, which would not be aligned");
}

static void test_order(void)
{
    size_t total;
    uint8_t *bytes = document("{\"z\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]},"
                              "\"e\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]},"
                              "\"a\":{\"dtype\":\"I16\",\"shape\":[],\"data_offsets\":[0,2]}}",
                              4, &total);
    struct safetensors doc;
    ok(!safetensors_parse(&doc, bytes, total, total, 1000) && !strcmp(doc.tensors[0].name, "a") &&
           !strcmp(doc.tensors[1].name, "e") && !strcmp(doc.tensors[2].name, "z"),
       "tensors are sorted by the offset of their data");
    ok(*safetensors_data(&doc, &doc.tensors[2]) == 2, "a sorted tensor has its own data");
    safetensors_close(&doc);
    free(bytes);
}

static void test_refusals(void)
{
    static const struct {
        const char *header;
        size_t size;
        const char *expected;
    } cases[] = {
        {"", 0, "too short"},
        {"{", 1, "expected 2 to 300"},
        {"[]", 0, "does not start with '{'"},
        {"{]", 0, "header, byte"},
        {"{} x", 0, "header, byte"},
        {"{}", 1, "1 bytes of data, the tensors take 0"},
        {"{\"__metadata__\":{\"a\":null}}", 0, "not a string"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, "expected dtype, shape and data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, "its shape takes 2"},
        {"{\"a\":{\"dtype\":\"X8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "dtype \"X8\""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "a gap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "an overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         4, "duplicate"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952,1],\"data_offsets\":[0,0]}}", 0,
         "too large"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
         "rank 9"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[300],\"data_offsets\":[0,300]},"
         "\"b________________________________________________________________________________"
         "________________________________________________________________________________"
         "________________________________________________________________________________\":1}",
         300, "a header of 3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t total;
        uint8_t *bytes = document(cases[i].header, cases[i].size, &total);
        struct safetensors doc;
        bool good = safetensors_parse(&doc, bytes, total, total, 300) == -1 &&
                    error_status() == STATUS_DATA && strstr(error_message(), cases[i].expected);
        if (!ok(good, "document %zu is refused: %s", i, cases[i].expected))
            diag("%s", error_message());
        free(bytes);
    }
}

int main(void)
{
    test_build();
    test_order();
    test_refusals();
    return tap_done();
}
