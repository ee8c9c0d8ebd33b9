// Any stream is either read fully and correctly, or refused with status 65 and the place of the
// defect; in order and at random, and in bounded memory. SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "formats/tstream/tstream.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"
#include "tests/tap.h"

static char path[] = "/tmp/tstream-broken-XXXXXX";

// Bytes of a stream being forged.
struct bytes {
    uint8_t *data;
    size_t size;
};

static void append(struct bytes *bytes, const void *data, size_t size)
{
    if (mem_grow(&bytes->data, bytes->size, size, 1) < 0)
        exit(2);
    if (size)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void append_u32(struct bytes *bytes, uint32_t value)
{
    uint8_t text[] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                      (uint8_t)(value >> 24)};
    append(bytes, text, 4);
}

static void put_file(const struct bytes *bytes)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT, 0600);
    if (fd < 0 || write(fd, bytes->data, bytes->size) != (ssize_t)bytes->size)
        exit(2);
    close(fd);
}

enum outcome { REFUSED, READ, WRONG };

// Records are numbered: byte k of record r is r + k in each field.
static bool is_numbered(const struct schema *schema, const struct batch *batch)
{
    for (size_t i = 0; i < schema->n_fields; i++)
        for (size_t row = 0; row < batch->rows; row++)
            for (size_t k = 0; k < schema->fields[i].size; k++)
                if (batch->data[i][row * schema->fields[i].size + k] !=
                    (uint8_t)(batch->first + row + k))
                    return false;
    return true;
}

static enum outcome refused(void)
{
    return error_status() == STATUS_DATA && strstr(error_message(), "byte ") &&
                   !strncmp(error_message(), path, strlen(path))
               ? REFUSED
               : WRONG;
}

static enum outcome read_in_order(uint64_t records)
{
    struct tstream_reader *reader = tstream_open(path, 1);
    struct batch *batch;
    uint64_t n = 0;
    int rc = reader ? 1 : -1;
    bool good = true;
    while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0) {
        good = good && batch->first == n && is_numbered(tstream_schema(reader), batch);
        n += batch->rows;
        batch_free(batch);
    }
    enum outcome outcome = rc < 0 ? refused() : n == records ? READ : WRONG;
    tstream_close(reader);
    return good ? outcome : WRONG;
}

static enum outcome read_at_random(uint64_t records)
{
    struct tstream_file *file = tstream_file_open(path);
    if (!file)
        return refused();
    bool good = true;
    enum outcome outcome = tstream_file_records(file) == records ? READ : WRONG;
    for (size_t i = 0; i < tstream_file_frames(file); i++) {
        struct batch *batch;
        if (tstream_file_read(file, i, &batch)) {
            outcome = refused();
            break;
        }
        good = good && batch->first == tstream_file_first(file, i) &&
               is_numbered(tstream_file_schema(file), batch);
        batch_free(batch);
    }
    tstream_file_close(file);
    return good ? outcome : WRONG;
}

// A sound stream of 6 records in 3 frames.
static struct bytes small_stream(void)
{
    struct schema *schema = schema_new("images");
    schema_add(schema, "image", DTYPE_U8, (size_t[]){2, 3}, 2);
    schema_add(schema, "label", DTYPE_I64, NULL, 0);
    struct tstream_writer *writer = tstream_create(output_open(path), schema, 1, 1);
    for (int frame = 0; frame < 3; frame++) {
        struct batch *batch = batch_new(schema, 2);
        for (size_t i = 0; i < schema->n_fields; i++)
            for (size_t row = 0; row < 2; row++)
                for (size_t k = 0; k < schema->fields[i].size; k++)
                    batch->data[i][row * schema->fields[i].size + k] =
                        (uint8_t)(2 * (size_t)frame + row + k);
        tstream_write(writer, batch);
    }
    uint8_t *data;
    size_t size;
    if (tstream_finish(writer) < 0 || file_read_all(path, &data, &size, 1 << 20) < 0)
        exit(2);
    schema_free(schema);
    return (struct bytes){data, size};
}

static void test_cuts(const struct bytes *whole)
{
    size_t bad = 0;
    for (size_t n = 0; n < whole->size; n++) {
        put_file(&(struct bytes){whole->data, n});
        if (read_in_order(6) != REFUSED || read_at_random(6) != REFUSED) {
            diag("cut to %zu bytes: %s", n, error_message());
            bad++;
        }
    }
    ok(!bad, "a stream of %zu bytes, cut at every byte, is refused", whole->size);
}

static void test_flips(struct bytes *whole)
{
    size_t bad = 0, read = 0;
    for (size_t bit = 0; bit < 8 * whole->size; bit++) {
        whole->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        put_file(whole);
        whole->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum outcome in_order = read_in_order(6), at_random = read_at_random(6);
        read += in_order == READ;
        if (in_order == WRONG || at_random == WRONG || (in_order == READ && at_random != READ)) {
            diag("bit %zu: %d %d %s", bit, in_order, at_random, error_message());
            bad++;
        }
    }
    ok(!bad, "a stream with any bit flipped is refused, or read correctly");
    ok(read < 60, "few flipped bits do no harm: %zu of %zu", read, 8 * whole->size);
}

// Finds the six parts of the stream: begin frame, three data frames, end frame, seek table.
static size_t find_parts(const struct bytes *whole, size_t parts[7])
{
    size_t n = 0;
    for (size_t at = 0; at < whole->size; n++) {
        parts[n] = at;
        at += ZSTD_findFrameCompressedSize(whole->data + at, whole->size - at);
    }
    parts[n] = whole->size;
    return n;
}

static void test_order(const struct bytes *whole)
{
    size_t parts[7], n = find_parts(whole, parts);
    size_t bad = n != 6;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= n; j++) { // part i dropped (j = n), or put before part j
            for (int keep = 0; keep < 2; keep++) {
                struct bytes forged = {0};
                if ((j == n && keep) || (!keep && (j == i || j == i + 1)))
                    continue;
                for (size_t k = 0; k < n; k++) {
                    if (k == j)
                        append(&forged, whole->data + parts[i], parts[i + 1] - parts[i]);
                    if (k != i || keep)
                        append(&forged, whole->data + parts[k], parts[k + 1] - parts[k]);
                }
                put_file(&forged);
                free(forged.data);
                if (read_in_order(6) != REFUSED || read_at_random(6) != REFUSED) {
                    diag("part %zu before %zu%s: %s", i, j, keep ? ", twice" : "", error_message());
                    bad++;
                }
            }
        }
    ok(!bad, "a stream with any part dropped, repeated or moved is refused");
}

// A stream given by the headers of its documents; NULL stands for the sound one.
struct forgery {
    const char *name, *begin, *data, *end;
    size_t extra;         // bytes of data beyond what the header describes; missing if negative
    const char *expected; // part of the error message; NULL if the stream is sound
};

#define A0     "\"a\":{\"dtype\":\"U16\",\"shape\":[0,2],\"data_offsets\":[0,0]}"
#define B0     "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}"
#define META   "\"__metadata__\":{\"format\":\"tstream\",\"version\":\"1\",\"kind\":\"images\"}"
#define BEGIN  "{" META "," A0 "," B0 "}"
#define FIRST  "\"__metadata__\":{\"first\":\"0\"}"
#define A      "\"a\":{\"dtype\":\"U16\",\"shape\":[3,2],\"data_offsets\":[0,12]}"
#define B      "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[12,15]}"
#define DATA   "{" FIRST "," A "," B "}"
#define COUNTS "\"__metadata__\":{\"records\":\"3\",\"frames\":\"1\"}"
#define ROWS   "\"rows\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}"
#define A8     "\"a\":{\"dtype\":\"U16\",\"shape\":[0,2],\"data_offsets\":[8,8]}"
#define B8     "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}"
#define END    "{" COUNTS "," ROWS "," A8 "," B8 "}"
#define TENSOR(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" offsets "]}"
#define BEGIN_B(b) "{" META "," A0 "," b "}"
#define DATA_B(b)  "{" FIRST "," A "," b "}"
#define DATA_M(m)  "{\"__metadata__\":" m "," A "," B "}"
#define NAME64     "a234567890123456789012345678901234567890123456789012345678901234"

static const struct forgery forgeries[] = {
    {"nothing wrong", NULL, NULL, NULL, 0, NULL},
    {"an overlap", NULL, DATA_B(TENSOR("b", "U8", "3", "10,13")), NULL, 0, "an overlap"},
    {"a gap", NULL, DATA_B(TENSOR("b", "U8", "3", "13,16")), NULL, 1, "a gap"},
    {"a shape that overflows", NULL, DATA_B(TENSOR("b", "U8", "4294967296,4294967296", "12,15")),
     NULL, 0, "too large"},
    {"a size over 64 bits", NULL, DATA_B(TENSOR("b", "U8", "99999999999999999999", "12,15")), NULL,
     0, "too big"},
    {"an end beyond all data", NULL,
     DATA_B(TENSOR("b", "U8", "9223372036854775795", "12,9223372036854775807")), NULL, 0,
     "15 bytes of data"},
    {"offsets backwards", NULL, DATA_B(TENSOR("b", "U8", "3", "15,12")), NULL, 0, "data_offsets"},
    {"a negative offset", NULL, DATA_B(TENSOR("b", "U8", "3", "-3,0")), NULL, 0, "data_offsets"},
    {"three offsets", NULL, DATA_B(TENSOR("b", "U8", "3", "12,15,15")), NULL, 0, "data_offsets"},
    {"a negative size", NULL, DATA_B(TENSOR("b", "U8", "-3", "12,15")), NULL, 0, "is not a size"},
    {"a size that is no whole number", NULL, DATA_B(TENSOR("b", "U8", "3.0", "12,15")), NULL, 0,
     "is not a size"},
    {"less data than the shape takes", NULL, DATA_B(TENSOR("b", "U8", "4", "12,15")), NULL, 0,
     "3 bytes of data, its shape takes 4"},
    {"trailing bytes", NULL, NULL, NULL, 1, "16 bytes of data, the tensors take 15"},
    {"a lacking byte", NULL, NULL, NULL, (size_t)-1, "14 bytes of data, the tensors take 15"},
    {"a key twice", NULL, DATA_M("{\"first\":\"0\",\"first\":\"0\"}"), NULL, 0, "duplicate"},
    {"a tensor twice", NULL, DATA_B(TENSOR("a", "U8", "3", "12,15")), NULL, 0, "duplicate"},
    {"metadata that is no text", NULL, DATA_M("{\"first\":0}"), NULL, 0, "not a string"},
    {"metadata that is no object", NULL, DATA_M("\"first\""), NULL, 0, "not an object"},
    {"no metadata", NULL, "{" A "," B "}", NULL, 0, "a document of unknown kind"},
    {"too much metadata", NULL, DATA_M("{\"first\":\"0\",\"x\":\"y\"}"), NULL, 0,
     "\"first\" alone"},
    {"a first record of 1", NULL, DATA_M("{\"first\":\"1\"}"), NULL, 0, "frames are missing"},
    {"a first record of 00", NULL, DATA_M("{\"first\":\"00\"}"), NULL, 0, "and a number"},
    {"a first record of +0", NULL, DATA_M("{\"first\":\"+0\"}"), NULL, 0, "and a number"},
    {"a first record of nothing", NULL, DATA_M("{\"first\":\"\"}"), NULL, 0, "and a number"},
    {"a first record over 64 bits", NULL, DATA_M("{\"first\":\"18446744073709551616\"}"), NULL, 0,
     "and a number"},
    {"fewer rows in one tensor", NULL, DATA_B(TENSOR("b", "U8", "2", "12,14")), NULL, (size_t)-1,
     "has 2 rows, expected 3"},
    {"no rows", NULL, "{" FIRST "," A0 "," B0 "}", NULL, (size_t)-15, "without records"},
    {"an unknown dtype", NULL, DATA_B(TENSOR("b", "F8", "3", "12,15")), NULL, 0,
     "unknown dtype \"F8\""},
    {"a scalar", NULL, DATA_B(TENSOR("b", "U8", "", "12,13")), NULL, (size_t)-2, "a scalar"},
    {"a rank of 9", NULL, DATA_B(TENSOR("b", "U8", "3,1,1,1,1,1,1,1,1", "12,15")), NULL, 0,
     "rank 9"},
    {"another rank", NULL, DATA_B(TENSOR("b", "U8", "3,1", "12,15")), NULL, 0, "is not \"b\""},
    {"another dtype", NULL, DATA_B(TENSOR("b", "I8", "3", "12,15")), NULL, 0, "is not \"b\""},
    {"another name", NULL, DATA_B(TENSOR("c", "U8", "3", "12,15")), NULL, 0, "is not \"b\""},
    {"one tensor less", NULL, "{" FIRST "," A "}", NULL, (size_t)-3, "found 1"},
    {"one tensor more", NULL, "{" FIRST "," A "," B "," TENSOR("c", "U8", "3", "15,18") "}", NULL,
     3, "found 3"},
    {"elements in rising size", NULL,
     "{" FIRST "," TENSOR("b", "U8", "3", "0,3") "," TENSOR("a", "U16", "3,2", "3,15") "}", NULL, 0,
     "larger elements"},
    {"another member in a tensor", NULL,
     DATA_B("\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[12,15],\"x\":1}"), NULL, 0,
     "expected dtype, shape and data_offsets"},
    {"a tensor that is no object", NULL, DATA_B("\"b\":3"), NULL, 0, "expected dtype"},
    {"no JSON", NULL, "{\"a\":", NULL, 0, "header, byte"},
    {"two objects", NULL, DATA DATA, NULL, 0, "header, byte"},
    {"bytes that are not UTF-8", NULL, DATA_M("{\"first\":\"\xff\"}"), NULL, 0, "header, byte"},
    {"a control code in a name", NULL, DATA_B(TENSOR("\\u001b[31m", "U9", "3", "12,15")), NULL, 0,
     "tensor \"?[31m\""},
    {"an array", NULL, "[" DATA "]", NULL, 0, "does not start with '{'"},
    {"a blank at the start", NULL, " " DATA, NULL, 0, "does not start with '{'"},
    {"padding of lines", NULL, DATA "\n", NULL, 0, "not padded with spaces"},
    {"another format", "{\"__metadata__\":{\"format\":\"x\"}," A0 "," B0 "}", NULL, NULL, 0,
     "not of a tensor stream"},
    {"a later version",
     "{\"__metadata__\":{\"format\":\"tstream\",\"version\":\"2\",\"kind\":\"images\"}," A0 "," B0
     "}",
     NULL, NULL, 0, "version 2"},
    {"another kind",
     "{\"__metadata__\":{\"format\":\"tstream\",\"version\":\"1\",\"kind\":\"smells\"}," A0 "," B0
     "}",
     NULL, NULL, 0, "smells"},
    {"no kind", "{\"__metadata__\":{\"format\":\"tstream\",\"version\":\"1\"}," A0 "," B0 "}", NULL,
     NULL, 0, "not of a tensor stream"},
    {"records in the begin frame", BEGIN_B(TENSOR("b", "U8", "3", "0,3")), NULL, NULL, 0,
     "holds records"},
    {"no tensors", "{" META "}", NULL, NULL, 0, "no tensors"},
    {"a tensor named rows", BEGIN_B(TENSOR("rows", "U8", "0", "0,0")), NULL, NULL, 0, "a tensor's"},
    {"a name with a blank", BEGIN_B(TENSOR("b b", "U8", "0", "0,0")), NULL, NULL, 0, "a tensor's"},
    {"a name that starts with a digit", BEGIN_B(TENSOR("1b", "U8", "0", "0,0")), NULL, NULL, 0,
     "a tensor's"},
    {"an empty name", BEGIN_B(TENSOR("", "U8", "0", "0,0")), NULL, NULL, 0, "a tensor's"},
    {"a name of 65 letters", BEGIN_B(TENSOR(NAME64 "5", "U8", "0", "0,0")), NULL, NULL, 0,
     "a tensor's"},
    {"records of size 0", BEGIN_B(TENSOR("b", "U8", "0,0", "0,0")), NULL, NULL, 0, "size 0"},
    {"a record over the limit", BEGIN_B(TENSOR("b", "U8", "0,300000000", "0,0")), NULL, NULL, 0,
     "more than 267386880 bytes"},
    {"more records at the end", NULL, NULL,
     "{\"__metadata__\":{\"records\":\"4\",\"frames\":\"1\"}," ROWS "," A8 "," B8 "}", 0,
     "does not count the 3 records"},
    {"more frames at the end", NULL, NULL,
     "{\"__metadata__\":{\"records\":\"3\",\"frames\":\"2\"}," ROWS "," A8 "," B8 "}", 0,
     "counts 2 data frames"},
    {"no rows at the end", NULL, NULL, "{" COUNTS "," A0 "," B0 "}", 0, "tensor \"rows\""},
    {"rows of another dtype", NULL, NULL,
     "{" COUNTS "," TENSOR("rows", "U64", "1", "0,8") "," A8 "," B8 "}", 0, "tensor \"rows\""},
    {"a tensor less at the end", NULL, NULL, "{" COUNTS "," ROWS "," A8 "}", 0, "found 1"},
    {"records at the end", NULL, NULL,
     "{" COUNTS "," ROWS "," A8 "," TENSOR("b", "U8", "1", "8,9") "}", 1, "1 rows, expected 0"},
};

// Appends a frame of header and data, and its entry of the seek table.
static void append_frame(struct bytes *stream, struct bytes *entries, const char *header,
                         const uint8_t *data, size_t size)
{
    struct bytes document = {0}, frame = {0};
    uint64_t length = (8 + strlen(header) + 63) / 64 * 64 - 8;
    append(&document, &length, 8);
    append(&document, header, strlen(header));
    while (document.size < 8 + length)
        append(&document, " ", 1);
    append(&document, data, size);
    size_t bound = ZSTD_compressBound(document.size);
    frame.data = malloc(bound);
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    frame.size = ZSTD_compress2(context, frame.data, bound, document.data, document.size);
    ZSTD_freeCCtx(context);
    append(stream, frame.data, frame.size);
    append_u32(entries, (uint32_t)frame.size);
    append_u32(entries, (uint32_t)document.size);
    free(document.data);
    free(frame.data);
}

static void append_table(struct bytes *stream, const struct bytes *entries)
{
    append_u32(stream, 0x184D2A5E);
    append_u32(stream, (uint32_t)entries->size + 9);
    append(stream, entries->data, entries->size);
    append_u32(stream, (uint32_t)entries->size / 8);
    append(stream, "", 1);
    append_u32(stream, 0x8F92EAB1);
}

static const uint8_t numbers[32] = {0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 0, 1, 2};

static struct bytes forge(const struct forgery *forgery)
{
    struct bytes stream = {0}, entries = {0};
    bool at_end = forgery->end;
    append_frame(&stream, &entries, forgery->begin ? forgery->begin : BEGIN, numbers,
                 forgery->begin && strstr(forgery->begin, "[0,3]") ? 3 : 0);
    append_frame(&stream, &entries, forgery->data ? forgery->data : DATA, numbers,
                 15 + (at_end ? 0 : forgery->extra));
    append_frame(&stream, &entries, forgery->end ? forgery->end : END, (const uint8_t[16]){3},
                 (forgery->end && !strstr(forgery->end, "rows") ? 0 : 8) +
                     (at_end ? forgery->extra : 0));
    append_table(&stream, &entries);
    free(entries.data);
    return stream;
}

static void expect(const char *name, const char *expected)
{
    enum outcome in_order = read_in_order(3);
    bool said = !expected || strstr(error_message(), expected);
    if (!said)
        diag("said: %s", error_message());
    enum outcome at_random = read_at_random(3);
    if (!ok(said && in_order == at_random && in_order == (expected ? REFUSED : READ), "%s", name))
        diag("%d %d %s", in_order, at_random, error_message());
}

static void test_documents(void)
{
    for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
        struct bytes stream = forge(&forgeries[i]);
        put_file(&stream);
        free(stream.data);
        expect(forgeries[i].name, forgeries[i].expected);
    }
    // 65 tensors
    struct bytes header = {0}, stream = {0}, entries = {0};
    append(&header, "{" META, strlen("{" META));
    for (int i = 0; i < 65; i++) {
        char text[128];
        snprintf(text, sizeof text, "," TENSOR("t%d", "U8", "0", "0,0"), i);
        append(&header, text, strlen(text));
    }
    append(&header, "}", 2);
    append_frame(&stream, &entries, (const char *)header.data, NULL, 0);
    put_file(&stream);
    expect("65 tensors", "more than 64 tensors");
    stream.size = 0;
    // A header of 1 MiB + 64
    struct bytes blanks = {0};
    append(&blanks, BEGIN, strlen(BEGIN));
    while (blanks.size < (1 << 20))
        append(&blanks, " ", 1);
    append(&blanks, "", 1);
    append_frame(&stream, &entries, (const char *)blanks.data, NULL, 0);
    put_file(&stream);
    expect("a header over 1 MiB", "expected 2 to 1048568");
    free(header.data);
    free(blanks.data);
    free(stream.data);
    free(entries.data);
}

// Changes single bytes of the seek table, which are counted from the end of the stream.
static void test_tables(void)
{
    static const struct {
        const char *name;
        size_t from_end;
        uint8_t value;
        const char *expected;
    } cases[] = {
        {"a table of another number", 9, 4, "expected a seek table of 3 frames"},
        {"a descriptor that is not 0", 5, 0x80, "does not end as zstd"},
        {"another end of the table", 1, 0, "does not end as zstd"},
        {"another size of the first frame", 33, 7, "for frame 0"},
        {"another content of the last frame", 13, 7, "for frame 2"},
        {"another skippable frame", 41, 0x5D, "expected a zstd frame or a seek table"},
        {"a table of an odd size", 37, 34, "no seek table has 34 bytes"},
        {"a table of 4 GiB", 34, 0xFF, "no seek table has"},
    };
    struct bytes stream = forge(&forgeries[0]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *byte = &stream.data[stream.size - cases[i].from_end], old = *byte;
        *byte = cases[i].value;
        put_file(&stream);
        *byte = old;
        expect(cases[i].name, cases[i].expected);
    }
    append(&stream, "", 1);
    put_file(&stream);
    expect("a trailing byte", "cut short within the frame");
    append(&stream, "some text", 9);
    put_file(&stream);
    expect("trailing text", "expected a zstd frame or a seek table");
    free(stream.data);
}

// Writes a frame made by hand: header bytes, then blocks of 128 KiB, each of one repeated byte.
static void put_frame(const uint8_t *header, size_t header_size, size_t blocks, unsigned type)
{
    struct bytes stream = {0};
    append(&stream, "\x28\xB5\x2F\xFD", 4);
    append(&stream, header, header_size);
    for (size_t i = 0; i < blocks; i++) {
        uint32_t size = type == 1 ? 131072 : 0, block = size << 3 | type << 1 | (i + 1 == blocks);
        append(&stream, (uint8_t[]){(uint8_t)block, (uint8_t)(block >> 8), (uint8_t)(block >> 16)},
               3);
        append(&stream, "", type == 1);
    }
    append_u32(&stream, 0);
    put_file(&stream);
    free(stream.data);
}

static void test_frames(void)
{
    // Frame header descriptor: content size of 8 bytes (C0), 4 (80) or 1 (20: single segment),
    // checksum (04). Window descriptor: 2^(10 + v/8). Content size.
    static const struct {
        const char *name;
        uint8_t header[10];
        size_t size, blocks;
        unsigned type;
        const char *expected;
    } cases[] = {
        {"32 KB that claim 1 GiB",
         {0x84, 13 << 3, 0, 0, 0, 0x40},
         6,
         8192,
         1,
         "a content of 1073741824 bytes"},
        {"a claim of 2^63", {0xC4, 13 << 3, 0, 0, 0, 0, 0, 0, 0, 0x80}, 10, 1, 1, "a content of"},
        {"a claim of 256 MiB that ends", {0x84, 13 << 3, 0, 0, 0, 0x10}, 6, 1, 1, "byte 0: "},
        {"more than the claimed 16 MiB", {0x84, 13 << 3, 0, 0, 0, 1}, 6, 129, 1, "byte 0: "},
        {"less than the claimed 16 MiB", {0x84, 13 << 3, 0, 0, 0, 1}, 6, 127, 1, "byte 0: "},
        {"16 MiB with a wrong checksum", {0x84, 13 << 3, 0, 0, 0, 1}, 6, 128, 1, "checksum"},
        {"more than the claimed 1 MiB", {0x84, 13 << 3, 0, 0, 0x10, 0}, 6, 9, 1, "byte 0: "},
        {"less than the claimed 1 MiB", {0x84, 13 << 3, 0, 0, 0x10, 0}, 6, 7, 1, "byte 0: "},
        {"1 MiB with a wrong checksum", {0x84, 13 << 3, 0, 0, 0x10, 0}, 6, 8, 1, "checksum"},
        {"a window of 9 MiB", {0x84, 13 << 3 | 1, 0, 0, 1, 0}, 6, 1, 1, "a window of 9437184"},
        {"one segment of 16 MiB", {0xA4, 0, 0, 0, 1}, 5, 128, 1, "a window of 16777216"},
        {"no content size", {0x04, 0}, 2, 1, 1, "does not state the size"},
        {"no checksum", {0x80, 0, 0, 0, 2, 0}, 6, 1, 1, "no checksum"},
        {"a dictionary", {0x85, 0, 1, 0, 0, 2, 0}, 7, 1, 1, "a dictionary"},
        {"a reserved bit", {0x8C, 0, 0, 0, 2, 0}, 6, 1, 1, "a reserved bit"},
        {"a reserved type of block", {0x84, 56, 0, 0, 2, 0}, 6, 1, 3, "byte 10: not a zstd block"},
        {"empty blocks without end",
         {0x84, 56, 0, 1, 0, 0},
         6,
         9999,
         0,
         "the bound for its content"},
        {"no content", {0x24, 0}, 2, 1, 0, "byte 0: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_frame(cases[i].header, cases[i].size, cases[i].blocks, cases[i].type);
        expect(cases[i].name, cases[i].expected);
    }
}

// Writes two frames of the largest size that is allowed, each 255 records of 1 MiB of zeros,
// without having one in memory.
static void put_largest(void)
{
    static const char begin[] = "{" META "," TENSOR("z", "U8", "0,1048576", "0,0") "}";
    static const char end[] = "{\"__metadata__\":{\"records\":\"510\",\"frames\":\"2\"}," TENSOR(
        "rows", "I64", "2", "0,16") "," TENSOR("z", "U8", "0,1048576", "16,16") "}";
    struct bytes stream = {0}, entries = {0};
    uint8_t *zeros = calloc(1, 1 << 20), *out = malloc(ZSTD_compressBound(1 << 20));
    append_frame(&stream, &entries, begin, NULL, 0);
    for (int frame = 0; frame < 2; frame++) {
        char header[256];
        int n = snprintf(header, sizeof header,
                         "{\"__metadata__\":{\"first\":\"%d\"}," TENSOR("z", "U8", "255,1048576",
                                                                        "0,267386880") "}",
                         255 * frame);
        memset(header + n, ' ', sizeof header - (size_t)n);
        ZSTD_CCtx *context = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
        ZSTD_CCtx_setPledgedSrcSize(context, 256 + 267386880);
        size_t size = stream.size, left = 1;
        for (int i = 0; left; i++) {
            char document[256] = {(char)248};
            memcpy(document + 8, header, 248);
            ZSTD_inBuffer in = {i ? (void *)zeros : document, i ? 1 << 20 : 256, 0};
            ZSTD_outBuffer piece = {out, ZSTD_compressBound(1 << 20), 0};
            left =
                ZSTD_compressStream2(context, &piece, &in, i == 255 ? ZSTD_e_end : ZSTD_e_continue);
            left = i == 255 ? left : 1;
            append(&stream, out, piece.pos);
        }
        ZSTD_freeCCtx(context);
        append_u32(&entries, (uint32_t)(stream.size - size));
        append_u32(&entries, 256 + 267386880);
    }
    append_frame(&stream, &entries, end, (const uint8_t[16]){255, [8] = 255}, 16);
    append_table(&stream, &entries);
    put_file(&stream);
    free(stream.data);
    free(entries.data);
    free(zeros);
    free(out);
}

static size_t memory_peak(void)
{
    size_t peak = 0;
    char line[128];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        sscanf(line, "VmHWM: %zu kB", &peak);
    if (status)
        fclose(status);
    return peak * 1024;
}

// Sanitizers, valgrind and qemu, which is then the process that the system knows, take memory of
// their own.
static bool is_instrumented(void)
{
#ifdef __SANITIZE_ADDRESS__
    return true;
#endif
    char name[16] = "";
    FILE *comm = fopen("/proc/self/comm", "r");
    if (comm && !fgets(name, sizeof name, comm))
        name[0] = 0;
    if (comm)
        fclose(comm);
    const char *preload = getenv("LD_PRELOAD");
    return strncmp(name, "qemu-", 5) == 0 || (preload && strstr(preload, "vgpreload"));
}

static void test_memory(void)
{
    put_largest();
    struct tstream_reader *reader = tstream_open(path, 4);
    struct batch *batch;
    uint64_t n = 0;
    int rc = reader ? 1 : -1;
    while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0) {
        n += batch->rows;
        batch_free(batch);
    }
    ok(rc == 0 && n == 510, "two frames of the greatest size are read");
    tstream_close(reader);
    struct tstream_file *file = tstream_file_open(path);
    rc = file ? tstream_file_read(file, 1, &batch) : -1;
    ok(!rc && batch->first == 255 && batch->data[0][255 << 19] == 0,
       "a frame of the greatest size is read at random");
    if (!rc)
        batch_free(batch);
    tstream_file_close(file);
    size_t peak = memory_peak();
    if (is_instrumented()) {
        skip("reading took less than 300 MB", "what runs the test takes more");
        return;
    }
    ok(peak < 300u * 1000 * 1000, "reading took less than 300 MB: %zu bytes", peak);
}

// Broken streams that are kept as files.
static void test_kept(void)
{
    static const struct {
        const char *name, *expected;
    } kept[] = {
        {"empty", "byte 0: the stream is empty: it has no begin frame"},
        {"cut", "cut short: there is no end frame"},
        {"frame-missing", "frames are missing"},
        {"frame-twice", "a frame is repeated"},
        {"bit-flipped", "byte 291: "},
        {"claims-1-gib", "a content of 1073741824 bytes"},
        {"overlap", "an overlap"},
        {"key-twice", "duplicate"},
    };
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        char name[64];
        snprintf(name, sizeof name, "tests/data/broken/%s.tstream", kept[i].name);
        struct tstream_reader *reader = tstream_open(name, 1);
        struct batch *batch;
        int rc = reader ? 1 : -1;
        while (rc > 0 && (rc = tstream_read(reader, &batch)) > 0)
            batch_free(batch);
        tstream_close(reader);
        bool good = rc < 0 && error_status() == STATUS_DATA;
        if (!ok(good && strstr(error_message(), kept[i].expected), "%s: %s", name,
                kept[i].expected))
            diag("%s", error_message());
        struct tstream_file *file = tstream_file_open(name);
        ok(!file || !strcmp(kept[i].name, "bit-flipped") || !strcmp(kept[i].name, "overlap") ||
               !strcmp(kept[i].name, "key-twice"),
           "%s: random access is refused, unless the tables are sound", name);
        tstream_file_close(file);
    }
}

int main(void)
{
    mem_keep_freed(); // as programs do
    if (mkstemp(path) < 0)
        return 2;
    struct bytes whole = small_stream();
    test_cuts(&whole);
    test_flips(&whole);
    test_order(&whole);
    test_documents();
    test_tables();
    test_frames();
    test_kept();
    test_memory();
    free(whole.data);
    unlink(path);
    return tap_done();
}
