// .npy files: which are read, and that all others are refused. SPDX-License-Identifier: MIT
#include "formats/containers/npy.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "tests/tap.h"

#define F4(shape) "{'descr': '<f4', 'fortran_order': False, 'shape': " shape ", }"

struct file {
    uint8_t bytes[1024];
    size_t size;
};

// A file with this header, unpadded, and `data` bytes of data: 0, 1, 2, ...
static struct file make(int major, const char *header, size_t data)
{
    struct file file = {.bytes = "\x93NUMPY", .size = major == 1 ? 10 : 12};
    size_t length = strlen(header);
    file.bytes[6] = (uint8_t)major;
    file.bytes[8] = (uint8_t)length;
    file.bytes[9] = (uint8_t)(length >> 8);
    memcpy(file.bytes + file.size, header, length);
    file.size += length;
    for (size_t i = 0; i < data; i++)
        file.bytes[file.size++] = (uint8_t)i;
    return file;
}

// Parses a copy that fills its memory, so that a sanitizer finds reads past the end.
static int parse(const struct file *file, size_t size, struct npy *npy)
{
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, file->bytes, size);
    int rc = npy_parse(npy, copy, size);
    if (rc == 0 && (npy->data < copy || npy->data > copy + size))
        rc = 1;
    npy->data = NULL;
    free(copy);
    return rc;
}

static bool takes(int major, const char *header, size_t data)
{
    struct npy npy;
    struct file file = make(major, header, data);
    return parse(&file, file.size, &npy) == 0 || (diag("%s", error_message()), false);
}

static void refuses(const char *name, struct file file, const char *message)
{
    struct npy npy;
    int rc = parse(&file, file.size, &npy);
    ok(rc < 0 && error_status() == STATUS_DATA && strstr(error_message(), message), "refused: %s",
       name);
    if (rc >= 0 || !strstr(error_message(), message))
        diag("%s", rc < 0 ? error_message() : "it was accepted");
}

static void test_good(void)
{
    static const struct {
        const char *descr;
        enum dtype dtype;
    } types[] = {{"<f2", DTYPE_F16}, {"<f4", DTYPE_F32}, {"<f8", DTYPE_F64}, {"|i1", DTYPE_I8},
                 {"<i2", DTYPE_I16}, {"<i4", DTYPE_I32}, {"<i8", DTYPE_I64}, {"|u1", DTYPE_U8},
                 {"<u2", DTYPE_U16}, {"<u4", DTYPE_U32}, {"<u8", DTYPE_U64}};
    struct npy npy;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[128];
        snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (3,), }",
                 types[i].descr);
        struct file file = make(1, header, 3 * dtype_size(types[i].dtype));
        ok(parse(&file, file.size, &npy) == 0 && npy.dtype == types[i].dtype && npy.rank == 1 &&
               npy.shape[0] == 3 && npy.count == 3,
           "%s is %s", types[i].descr, dtype_name(types[i].dtype));
    }
    struct file file = make(1, F4("(1, 4, 2, 3)") "     \n", 96);
    ok(npy_parse(&npy, file.bytes, file.size) == 0 && npy.rank == 4 && npy.shape[0] == 1 &&
           npy.shape[1] == 4 && npy.shape[2] == 2 && npy.shape[3] == 3 && npy.count == 24 &&
           npy.data == file.bytes + file.size - 96 && npy.data[95] == 95,
       "a shape of rank 4 and its data are found");
    ok(takes(2, F4("(2, 2)") " \n", 16), "version 2.0 is read");
    ok(takes(3, F4("(2, 2)") " \n", 16), "version 3.0 is read");
    ok(takes(1, F4("()"), 4), "the shape () is one element");
    ok(takes(1, F4("(5, 0)"), 0), "a shape with a size of 0 has no data");
    ok(takes(1, F4("(1, 1, 1, 1, 1, 1, 1, 2)"), 8), "rank 8 is read");
    ok(takes(1, "{'shape':(2,),'fortran_order':False,'descr':'<f4'}\n", 8),
       "keys in any order, with or without blanks and the last comma");
}

static void test_bad(void)
{
    refuses("an empty file", (struct file){0}, "expected a .npy file, found an empty one");
    refuses("a zip", (struct file){"PK\3\4..........", 14}, "byte 0: expected a .npy file");
    refuses("version 4.0", make(4, F4("(2,)"), 8), "version 1.0, 2.0 or 3.0, found 4.0");
    struct file file = make(1, F4("(2,)"), 8);
    file.bytes[7] = 1;
    refuses("version 1.1", file, "found 1.1");
    file = make(1, F4("(2,)"), 8);
    file.bytes[9] = 0xFF;
    refuses("a header past the end", file, "expected a header that ends before byte");
    file = make(2, F4("(2,)"), 8);
    memset(file.bytes + 8, 0xFF, 4);
    refuses("a header of 4 GiB", file, "found one of 4294967295 bytes from byte 12 on");

    refuses("big-endian", make(1, "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8),
            "byte 20: expected the descr of little-endian floats or integers, such as '<f4', "
            "found '>f4'");
    refuses("objects", make(1, "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 8),
            "found '|O'");
    refuses("records",
            make(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", 8),
            "found [('a', '<f4')]");
    refuses("Fortran order",
            make(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", 16),
            "expected False, which is C order, found True");
    refuses("a key is missing", make(1, "{'descr': '<f4', 'shape': (2,), }", 8),
            "expected a header with 'descr'");
    refuses("a key twice", make(1, "{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }", 8),
            "each once");
    refuses("an unknown key", make(1, "{'descr': '<f4', 'order': False, 'shape': (2,), }", 8),
            "each once, found 'order'");
    refuses("no comma between keys",
            make(1, "{'descr': '<f4' 'fortran_order': False, 'shape': (2,), }", 8), "each once");
    refuses("no colon after a key",
            make(1, "{'descr' '<f4', 'fortran_order': False, 'shape': (2,), }", 8),
            "expected :, found '<f4'");
    refuses("a list in place of the dict", make(1, "['descr', '<f4']", 8),
            "expected {, found ['descr'");
    refuses("a dict without an end",
            make(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,", 0),
            "found the end of the header");
    refuses("text after the dict", make(1, F4("(2,)") "x", 8), "expected blanks after the header");

    refuses("a negative size", make(1, F4("(-2,)"), 8), "expected a shape of at most 8 sizes");
    refuses("a size of 2^64", make(1, F4("(18446744073709551616,)"), 8), "expected a shape");
    refuses("a shape that is a number", make(1, F4("2"), 8), "expected a shape");
    refuses("one size without a comma", make(1, F4("(2)"), 8), "expected (N,)");
    refuses("sizes without a comma", make(1, F4("(2 2)"), 16), "expected a shape");
    refuses("rank 9", make(1, F4("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), 4), "expected a shape");
    refuses("sizes whose product overflows", make(1, F4("(4294967296, 4294967296)"), 8),
            "F32 of [4294967296, 4294967296] is too large");
    refuses("bytes that overflow", make(1, F4("(4611686018427387904,)"), 8), "is too large");
    refuses("too little data", make(1, F4("(2,)"), 7),
            "expected 8 bytes of data (F32 [2]), found 7");
    refuses("too much data", make(1, F4("(2,)"), 9), "expected 8 bytes of data (F32 [2]), found 9");
}

static void test_damage(void)
{
    struct file good = make(1, F4("(1, 4, 2, 2)") " \n", 64);
    struct npy npy;
    size_t refused = 0, crashed = 0;
    for (size_t size = 0; size < good.size; size++)
        refused += parse(&good, size, &npy) < 0;
    ok(refused == good.size, "a file cut anywhere is refused");
    for (size_t bit = 0; bit < 8 * good.size; bit++) {
        struct file bad = good;
        bad.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        crashed += parse(&bad, bad.size, &npy) > 0;
    }
    ok(crashed == 0, "with any bit flipped, the data stays within the file");
}

static void check_read(const char *name, const char *path, size_t size_max, enum status status,
                       const char *message)
{
    struct npy npy;
    int rc = npy_read(&npy, path, size_max);
    ok(rc < 0 && error_status() == status && strstr(error_message(), path) &&
           strstr(error_message(), message),
       "not read: %s", name);
    if (rc == 0)
        npy_free(&npy);
    else if (!strstr(error_message(), message))
        diag("%s", error_message());
}

static void test_files(void)
{
    char folder[] = "/tmp/npy-XXXXXX", path[64], fifo[64];
    if (!mkdtemp(folder))
        exit(1);
    snprintf(path, sizeof path, "%s/a.npy", folder);
    snprintf(fifo, sizeof fifo, "%s/fifo.npy", folder);
    struct file good = make(1, F4("(2, 2)"), 16);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(good.bytes, 1, good.size, f) != good.size || fclose(f) || mkfifo(fifo, 0600))
        exit(1);
    struct npy npy;
    ok(npy_read(&npy, path, 16) == 0 && npy.count == 4 && npy.data[15] == 15,
       "npy_read reads a file");
    npy_free(&npy);
    check_read("a missing file", "/tmp/npy-none.npy", 16, STATUS_NO_INPUT, "No such file");
    check_read("a folder", folder, 16, STATUS_NO_INPUT, "expected a regular file");
    check_read("a FIFO", fifo, 16, STATUS_NO_INPUT, "expected a regular file");
    if (truncate(path, 1 << 20))
        exit(1);
    check_read("a file larger than size_max", path, 16, STATUS_DATA,
               "expected at most 65552 bytes, found more");
    unlink(path);
    unlink(fifo);
    rmdir(folder);
}

int main(void)
{
    test_good();
    test_bad();
    test_damage();
    test_files();
    return tap_done();
}
