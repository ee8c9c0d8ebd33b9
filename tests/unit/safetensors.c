// Safetensors: headers built and parsed, files opened, everything odd refused.
// SPDX-License-Identifier: MIT
#include "formats/containers/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    ok(header_size % 64 == 0, "its size is a multiple of 64");
    ok(tensors[1].offset == 24 && tensors[2].offset == 28 && tensors[2].size == 5,
       "offsets and sizes are set");
    bytes = realloc(bytes, header_size + 33);
    memset(bytes + header_size, 0, 33);
    memcpy(bytes + header_size, &(float){1.5f}, 4);
    struct safetensors doc;
    ok(!safetensors_parse(&doc, bytes, header_size + 33, header_size + 33, 1000) &&
           doc.n_tensors == 3 && doc.header_size == header_size && doc.data_size == 33,
       "it is parsed");
    const struct safetensor *b = safetensors_find(&doc, "b.weight");
    ok(b && b->dtype == DTYPE_U8 && b->rank == 1 && b->shape[0] == 5 && b->offset == 28,
       "a tensor is found");
    ok(!safetensors_find(&doc, "c"), "one that is not there is not");
    ok(!strcmp(safetensors_get(&doc, "epoch"), "3") && !safetensors_get(&doc, "x"),
       "so is metadata");
    float values[6] = {0};
    ok(!safetensors_floats(&doc, "a", (size_t[]){2, 3}, 2, values) && values[0] == 1.5f,
       "floats are read");
    ok(safetensors_floats(&doc, "a", (size_t[]){3, 2}, 2, values) &&
           strstr(error_message(), "\"a\" has shape [2, 3], expected [3, 2]"),
       "... not with another shape");
    ok(safetensors_floats(&doc, "c", (size_t[]){3, 2}, 2, values) &&
           strstr(error_message(), "no tensor \"c\""),
       "... nor where there are none");
    ok(safetensors_floats(&doc, "b.weight", (size_t[]){5}, 1, values) &&
           strstr(error_message(), "\"b.weight\""),
       "... nor from integers");
    safetensors_close(&doc);
    ok(!safetensors_parse(&doc, bytes, header_size, header_size + 33, 1000) && !doc.data,
       "the header is enough to parse it");
    safetensors_close(&doc);
    ok(safetensors_parse(&doc, bytes, header_size - 1, header_size + 33, 1000) == -1,
       "... but all of it");
    free(bytes);

    struct safetensor twice[] = {{.name = "a", .dtype = DTYPE_U8},
                                 {.name = "a", .dtype = DTYPE_U8}};
    ok(safetensors_build_header(twice, 2, NULL, &bytes, &header_size) &&
           strstr(error_message(), "\"a\""),
       "two tensors of one name are refused");
    struct safetensor rising[] = {{.name = "a", .dtype = DTYPE_U8},
                                  {.name = "b", .dtype = DTYPE_F16}};
    ok(safetensors_build_header(rising, 2, NULL, &bytes, &header_size) &&
           strstr(error_message(), "larger elements"),
       "so are tensors that would not be aligned");
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
       "tensors come in the order of their data");
    ok(*safetensors_data(&doc, &doc.tensors[2]) == 2, "... and have it");
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
        if (!ok(good, "refused: %s", cases[i].expected))
            diag("%s", error_message());
        free(bytes);
    }
}

static void test_files(void)
{
    char path[] = "/tmp/safetensors-XXXXXX";
    int fd = mkstemp(path);
    size_t total;
    uint8_t *bytes =
        document("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, &total);
    struct safetensors doc;
    ok(safetensors_open(&doc, path) == -1 && strstr(error_message(), path), "an empty file");
    bool good = write(fd, bytes, total) == (ssize_t)total;
    ok(good && !safetensors_open(&doc, path) && safetensors_data(&doc, &doc.tensors[0])[3] == 3,
       "a file is opened");
    safetensors_close(&doc);
    good = ftruncate(fd, (off_t)total - 1) == 0;
    ok(good && safetensors_open(&doc, path) == -1 && error_status() == STATUS_DATA &&
           strstr(error_message(), path),
       "one that was cut short is refused, by name");
    unlink(path);
    ok(safetensors_open(&doc, path) == -1 && error_status() == STATUS_NO_INPUT,
       "one that is not there is not opened");
    close(fd);
    free(bytes);
}

int main(void)
{
    test_build();
    test_order();
    test_refusals();
    test_files();
    return tap_done();
}
