// Whatever a file of weights holds, weights_open reads it in full, or refuses it with status 65 and
// the reason. It takes bounded memory and calls nothing that the file names.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "formats/containers/pickle.h"
#include "formats/weights/weights-list.h"
#include "formats/weights/weights.h"
#include "lib/base/error.h"
#include "tests/forge.h"
#include "tests/tap.h"

static char path[] = "/tmp/weights-broken-XXXXXX";

// Whether every element can be read; the sum keeps the reading.
static bool reads_all(const struct weights *weights)
{
    double sum = 0;
    for (size_t i = 0; i < weights->n_weights; i++) {
        const struct weight *weight = &weights->all[i];
        size_t rows = weight->rank ? weight->shape[0] : 1, count = weight_count(weight);
        uint8_t *data = malloc(count * dtype_size(weight->dtype) + 1);
        if (!data)
            return false;
        data[0] = 0;
        weight_read(weight, 0, rows, data);
        for (size_t k = 0; k < count; k++)
            sum += data[k];
        free(data);
        if (!*weight->name || weights_find(weights, weight->name) != weight)
            return false;
    }
    return sum >= 0;
}

// Whether the file is read in full, or refused with a message.
static bool survives(void)
{
    struct weights weights;
    if (weights_open(&weights, path) == 0) {
        bool good = reads_all(&weights);
        weights_close(&weights);
        return good;
    }
    return error_status() == STATUS_DATA && !strncmp(error_message(), path, strlen(path)) &&
           strlen(error_message()) > strlen(path) + 10;
}

// Writes the file, frees it, and expects a refusal with this message.
static void refused(struct forged *file, const char *expected)
{
    static int number; // several files are refused with the same words
    struct weights weights;
    forge_write(file, path);
    free(file->data);
    bool opened = weights_open(&weights, path) == 0;
    if (opened)
        weights_close(&weights);
    if (!ok(!opened && error_status() == STATUS_DATA && strstr(error_message(), path) &&
                strstr(error_message(), expected),
            "broken file %d is refused: %s", ++number, expected))
        diag("%s", opened ? "it was opened" : error_message());
}

#define TENSOR(offset, shape, strides) FORGE_TENSOR("0", "24", offset, shape, strides)
#define ONE                            TENSOR("0", "I2\n", "I1\n")
#define DICT(items)                    "(d" items "."

static void test_pickles(void)
{
    static const struct {
        const char *pickle, *expected;
    } cases[] = {
        // Errors in the pickle's opcodes.
        {"", "expected 1 more bytes"},
        {"\x80\6N.", "expected protocol 0 to 5, found 6"},
        {"\x95\xff\1\1\1\1\1\1\1N.", "a frame of"},
        {"NN.", "expected one value at the end, found 1 more"},
        {".", "expected a value on the stack, found none"},
        {"(.", "expected a value on the stack, found a mark"},
        {"0", "expected a value on the stack, found none"},
        {"t", "expected a mark on the stack, found none"},
        {"!", "expected an opcode of a pickle, found 0x21"},
        {"\x82\1.", "opcode EXT1"},
        {"\x84\1\1\1\1.", "opcode EXT4"},
        {"\x97.", "opcode NEXT_BUFFER"},
        {"N\x98.", "opcode READONLY_BUFFER"},
        {"I12", "expected a line of text"},
        {"Ix\n.", "expected a number in text"},
        {"F1,5\n.", "expected a number in text"},
        {"S'abc\n.", "expected text in quotes"},
        {"S'\n.", "expected text in quotes"},
        {"X\xff\xff\xff\xff", "expected 4294967295 more bytes, found 0"},
        {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "more bytes, found 1"},
        {"T\1\1\1\xff.", "more bytes"},
        {"\x8b\xff\xff\xff\xff.", "more bytes"},
        {"h\1.", "value 1 of the memo was not set"},
        {"Np-1\n.", "expected an index into the memo"},
        {"r\1\1\1\1.", "expected a value on the stack"},
        {"Nr\1\1\1\1.", "expected a memo of at most"},
        {"(NNd(sN.", "found a mark"},
        {"(NNNd.", "expected keys and values, found 3 values"},
        {"}(Nu.", "expected keys and values, found 1 values"},
        {"]NNs.", "expected a dict to add to, found a list"},
        {"}Na.", "expected a list to add to, found a dict"},
        {"](N\x90.", "expected a set to add to, found a list"},
        {"}}b.", "expected an object to give a state, found a dict"},
        {"NN\x93.", "expected the names of a module"},
        {"(o.", "expected a class after the mark"},
        {"ca\n.", "expected a line of text"},
        {"(d.N", "expected the end of data.pkl, found 1 bytes more"},
        // Errors in the value that was saved.
        {"N.", "expected a dict of tensors (a model's state_dict()), found None"},
        {"(l.", "found a list"},
        {"S'\x1b[2J'\n.", "found text"},
        {"cmodels\nDiT\n)\x81}b.", "found a call of models.DiT"},
        {"c\x1b[\nX\n)R.", "found a call of ?[.X"},
        {"I1\n)R.", "found an object"},
        {ONE ".", "found a call of torch._utils._rebuild_tensor_v2"},
        {"(d.", "no tensor in its dicts"},
        {"(dS'a'\nI1\ns.", "no tensor in its dicts"},
        {DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("a", ONE)), "the dict \"\" has key \"a\" twice"},
        {DICT(FORGE_ITEM("m", "(d" FORGE_ITEM("a", "I1\n") FORGE_ITEM("a", ONE))),
         "the dict \"m\" has key \"a\" twice"},
        {"(dI7\nNsI-7\nNsI7\nNs.", "has key \"7\" twice"},
        {DICT(FORGE_ITEM("a.b", ONE) FORGE_ITEM("a", "(d" FORGE_ITEM("b", ONE))),
         "two tensors are named \"a.b\""},
        {DICT(FORGE_ITEM("1", "I2\n") "I1\nI3\ns"), "two values are named \"1\""},
        {DICT("S''\n" ONE "s"), "a tensor below \"\" has no name: a key is empty"},
        {DICT("S'a\x1b'\n" ONE "s"), "a key holds control characters"},
        {DICT("N" ONE "s"), "a key is neither text nor an integer"},
        {DICT(FORGE_ITEM("m", "(d(t" ONE "s")), "a tensor below \"m\" has no name"},
        {DICT("S'a\xff'\n" ONE "s"), "tensor \"a?\": its name is not UTF-8"},
        // Errors in tensors.
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_tensor\n)R")),
         "tensor \"a\": expected a storage"},
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_tensor\nNR")),
         "tensor \"a\": expected a storage"},
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_tensor\n(NI0\n(t(ttR")),
         "tensor \"a\": expected a storage"},
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_parameter\n(cos\nsystem\ntR")),
         "expected a parameter made of a tensor"},
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n"
                              "_rebuild_parameter\n(" ONE "tRtR")),
         "expected a parameter made of a tensor"},
        {DICT(FORGE_ITEM("a", TENSOR("-1", "I2\n", "I1\n"))), "expected a storage, a place in it"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I-2\n", "I1\n"))), "its shape holds -2"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I2\n", "I-1\n"))), "its strides holds -1"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "F2\n", "I1\n"))),
         "integers as its shape, found a float"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I2\n", ""))), "a tuple of 1 as its strides"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I2\n", "I1\nI1\n"))), "a tuple of 1 as its strides"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\nI1\n", ""))), "rank 9"},
        {DICT(FORGE_ITEM("a", TENSOR("23", "I2\n", "I1\n"))), "number 24 of a storage of 24"},
        {DICT(FORGE_ITEM("a", TENSOR("24", "", ""))), "number 24 of a storage of 24"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I25\n", "I1\n"))), "number 24 of a storage of 24"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I2\nI2\n", "I24\nI1\n"))), "number 25 of a storage"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I4\n", "I9223372036854775807\n"))), "leave its storage"},
        {DICT(FORGE_ITEM("a",
                         TENSOR("9223372036854775807", "I2\nI2\n", "I9223372036854775807\nI9\n"))),
         "leave its storage"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I4294967296\nI4294967296\n", "I0\nI0\n"))),
         "takes more than the file"},
        {DICT(FORGE_ITEM("a", TENSOR("0", "I999999\n", "I0\n"))), "takes more than the file"},
        // Errors in storages.
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("0", "23", "0", "I2\n", "I1\n"))),
         "tensor \"a\": storage \"0\": expected 23 elements of F32, found 96 bytes"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("0", "25", "0", "I2\n", "I1\n"))),
         "storage \"0\": expected 25 elements of F32, found 96 bytes"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("0", "-24", "0", "I2\n", "I1\n"))),
         "expected a storage as"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("1", "24", "0", "I2\n", "I1\n"))),
         "storage \"1\" is not in the file"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("../version", "24", "0", "I2\n", "I1\n"))),
         "storage \"../version\" is not in the file"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("", "24", "0", "I2\n", "I1\n"))),
         "expected a storage as"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF(FORGE_ID("torch\nComplexFloatStorage", "0", "12"),
                                              "0", "I2\n", "I1\n"))),
         "tensor \"a\": its type torch.ComplexFloatStorage is not supported"},
        {DICT(FORGE_ITEM(
             "a", FORGE_TENSOR_OF(FORGE_ID("os\nFloatStorage", "0", "24"), "0", "I2\n", "I1\n"))),
         "its type os.FloatStorage is not supported"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF("PFloatStorage\n", "0", "I2\n", "I1\n"))),
         "expected a storage as"},
        {DICT(FORGE_ITEM("a", "ctorch._utils\n_rebuild_tensor_v3\n(" FORGE_ID(
                                  "torch\nUntypedStorage", "0",
                                  "96") "I0\n(I2\nt(I1\ntI00\nNctorch\nfloat8_e4m3fn\ntR")),
         "tensor \"a\": its type torch.float8_e4m3fn is not supported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged file = forge_zip(cases[i].pickle, strlen(cases[i].pickle));
        refused(&file, cases[i].expected);
    }
}

#define GOOD   DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("b", TENSOR("4", "I2\nI3\n", "I3\nI1\n")))
#define LISTED "(lS'0'\na."

static void test_legacy(void)
{
#define VIEW(part) "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI24\n" part "tQ"
    static const struct {
        const char *pickle, *keys, *expected;
    } cases[] = {
        {GOOD, "(l.", "expected the end after the last storage"},
        {GOOD, "(lS'0'\naS'0'\na.", "storage \"0\" a second time"},
        {GOOD, "(lS'1'\na.", "expected a storage that a tensor names"},
        {GOOD, "(lI0\na.", "expected a storage that a tensor names"},
        {GOOD, "N.", "expected the list of the storages"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR("0", "23", "0", "I2\n", "I1\n"))), LISTED,
         "expected 23 elements of storage \"0\", found 24"},
        {DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("b", FORGE_TENSOR("1", "9", "0", "I2\n", "I1\n"))),
         LISTED, "tensor \"b\": storage \"1\" is not in the file"},
        {DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("b", FORGE_TENSOR("1", "9", "0", "I2\n", "I1\n"))),
         "(lS'0'\naS'1'\na.", "expected storage \"1\", found the end"},
        {DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("b", FORGE_TENSOR("0", "9", "0", "I2\n", "I1\n"))),
         LISTED, "storage \"0\" is said to be of different sizes or types"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF(FORGE_ID("torch\nDoubleStorage", "0", "24"), "0",
                                              "I2\n", "I1\n"))),
         LISTED, "expected 24 elements of F64 of storage \"0\", found 96 bytes"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF(VIEW("(S'1'\nI20\nI5\nt"), "0", "I2\n", "I1\n"))),
         LISTED, "a part of 5 from 20, it has 24 elements"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF(VIEW("(S'1'\nI20\nI4\nt"), "3", "I2\n", "I1\n"))),
         LISTED, "number 4 of a storage of 4"},
        {DICT(FORGE_ITEM("a", FORGE_TENSOR_OF(VIEW("(S'1'\nI-1\nI4\nt"), "0", "I2\n", "I1\n"))),
         LISTED, "expected key, start and count of a part"},
        {DICT(FORGE_ITEM("a", ONE) FORGE_ITEM("b", "PX\n")), LISTED, "expected a storage as"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged file = forge_legacy(cases[i].pickle, cases[i].keys);
        refused(&file, cases[i].expected);
    }
    static const char *const starts[][2] = {
        {FORGE_MAGIC "I1000\n.", "expected version 1001"},
        {FORGE_MAGIC "I1001\n.(dS'little_endian'\nI00\ns.", "expected a system that is little"},
        {FORGE_MAGIC "I1001\n.N...............", "expected a system that is little"},
        {"\x80\2"
         "0123456789" FORGE_MAGIC,
         "byte 2: expected a value on the stack"},
        {"\x80\2N.\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19................",
         "byte 0: expected PyTorch's magic number"},
    };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        struct forged file = {0};
        forge_text(&file, starts[i][0]);
        forge_text(&file, GOOD LISTED);
        refused(&file, starts[i][1]);
    }
}

// Files that are no weights at all.
static void test_kinds(void)
{
    static const struct {
        const char *text;
        size_t at;
        const char *expected;
    } cases[] = {
        {"", 0, "expected weights (safetensors, or a file of torch.save), found neither"},
        {"version https://git-lfs.github.com/spec/v1\n", 0, "found a git-lfs pointer"},
        {"\xEF\xBB\xBF\n <!DOCTYPE html>", 0, "found an HTML page"},
        {"<HTML lang=en>", 0, "found an HTML page"},
        {"ustar", 257, "a tar archive, as PyTorch wrote before 0.2"},
        {"sys_info", 0, "a tar archive, as PyTorch wrote before 0.2"},
        {"{", 8, "header"},
        {"PK\3\4", 0, "expected the end of a zip archive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged file = {0};
        for (size_t k = 0; k < (i ? 1024 : 0); k++)
            forge_number(&file, 1, 0);
        memcpy(file.data ? file.data + cases[i].at : (uint8_t *)path, cases[i].text,
               strlen(cases[i].text));
        refused(&file, cases[i].expected);
    }
    static const char *const indexes[][2] = {
        {"{\"weight_map\": 5}", "an index of them, found JSON without weight_map"},
        {"{\"weight_map\": ", "not an index of weights: byte"},
        {"{\"weight_map\": {\"a\": \"../b\"}}", "the index names \"../b\""},
        {"{\"weight_map\": {\"a\": 5}}", "the index names \"?\""},
    };
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        struct forged file = {0};
        forge_text(&file, indexes[i][0]);
        refused(&file, indexes[i][1]);
    }
    struct weights weights;
    ok(weights_open(&weights, "/nowhere/a.pt") == -1 && error_status() == STATUS_NO_INPUT &&
           strstr(error_message(), "/nowhere/a.pt"),
       "a file that is not there is not opened");
    ok(weights_open(&weights, "/tmp") == -1 && error_status() == STATUS_NO_INPUT,
       "a folder is not opened");

    static const char *const safetensors[][2] = {
        {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         "a tensor without a name"},
        {"{\"a\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "\"a?\": control"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,2]}}", "2 bytes of data"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct forged file = {0};
        forge_number(&file, 8, strlen(safetensors[i][0]));
        forge_text(&file, safetensors[i][0]);
        forge_number(&file, 1, 0);
        refused(&file, safetensors[i][1]);
    }
}

static struct forged good_zip(void)
{
    return forge_zip(GOOD, strlen(GOOD));
}

enum where { LOCAL, ENTRY, END };

static void test_directory(void)
{
    static const struct {
        enum where where;
        size_t member, at, size;
        uint64_t value;
        const char *expected;
    } cases[] = {
        {ENTRY, 1, 8, 2, 1, "\"a/data/0\" is encrypted"},
        {ENTRY, 1, 8, 2, 0x20, "has unknown flags 0x20"},
        {ENTRY, 1, 8, 2, 8, "differs from the directory's"},
        {ENTRY, 1, 10, 2, 8, "expected stored members, \"a/data/0\" is compressed (method 8)"},
        {ENTRY, 1, 16, 4, 1, "differs from the directory's"},
        {ENTRY, 1, 20, 4, 95, "is stored, but with two sizes, 95 and 96"},
        {ENTRY, 1, 20, 8, 95 | (uint64_t)95 << 32, "differs from the directory's"},
        {ENTRY, 1, 24, 4, UINT32_MAX, "expected sizes in a zip64 field, found none"},
        {ENTRY, 1, 28, 2, 7, "differs from the directory's"},
        {ENTRY, 1, 28, 2, 0xFFFF, "goes beyond"},
        {ENTRY, 1, 30, 2, 1, "a member's extra fields"},
        {ENTRY, 2, 30, 2, 1, "goes beyond"},
        {ENTRY, 1, 32, 2, 0xFFFF, "goes beyond"},
        {ENTRY, 1, 34, 2, 1, "a member on another disk"},
        {ENTRY, 1, 42, 4, 0, "differs from the directory's"},
        {ENTRY, 1, 42, 4, 1, "expected the header of a member"},
        {ENTRY, 1, 42, 4, 0xFFFFFFFE, "expected the header of a member"},
        {ENTRY, 1, 42, 4, UINT32_MAX, "expected sizes in a zip64 field"},
        {ENTRY, 1, 46, 1, 'b', "differs from the directory's"},
        {ENTRY, 1, 0, 4, 0, "expected an entry of the directory"},
        {LOCAL, 1, 0, 4, 0, "expected the header of a member"},
        {LOCAL, 1, 6, 2, 1, "differs from the directory's"},
        {LOCAL, 1, 8, 2, 8, "differs from the directory's"},
        {LOCAL, 1, 14, 4, 9, "differs from the directory's"},
        {LOCAL, 1, 18, 4, 97, "differs from the directory's"},
        {LOCAL, 1, 22, 4, UINT32_MAX, "expected sizes in a zip64 field"},
        {LOCAL, 1, 26, 2, 7, "differs from the directory's"},
        {LOCAL, 2, 28, 2, 60000, "goes beyond"},
        {END, 0, 0, 4, 0, "expected the end of a zip archive"},
        {END, 0, 4, 2, 1, "a zip archive of several files"},
        {END, 0, 8, 2, 2, "a zip archive of several files"},
        {END, 0, 8, 4, 0x00020002, "expected the end of the directory"},
        {END, 0, 8, 4, 0x00040004, "4 members in a directory of"},
        {END, 0, 8, 4, 0xFFFFFFFF, "65535 members in a directory of"},
        {END, 0, 12, 4, 1, "expected the directory before it"},
        {END, 0, 16, 4, 1, "expected the directory before it"},
        {END, 0, 16, 4, UINT32_MAX, "expected the directory before it"},
        {END, 0, 20, 2, 1, "expected the end of a zip archive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged file = good_zip();
        const size_t starts[] = {file.local[cases[i].member], file.entry[cases[i].member],
                                 file.size - 22};
        forge_patch(&file, starts[cases[i].where] + cases[i].at, cases[i].size, cases[i].value);
        refused(&file, cases[i].expected);
    }
}

// Archives whose members contradict each other, or are not those of torch.save.
static void test_members(void)
{
    static const struct {
        const char *names[4];
        const char *expected;
    } cases[] = {
        {{"a/data.pkl", "a/data/0", "a/data/0"}, "two members are named \"a/data/0\""},
        {{"a/data.pkl", "b/data.pkl"}, "expected one data.pkl in the zip archive, found several"},
        {{"arr_0.npy"}, "a zip archive without NAME/data.pkl"},
        {{"a/b/data.pkl"}, "a zip archive without NAME/data.pkl"},
        {{"a/data.pkl", "b/data/0"}, "storage \"0\" is not in the file"},
        {{"a/data.pkl", "a/data/0", "a/byteorder"}, "expected little-endian data"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged file = {0};
        for (size_t k = 0; k < 4 && cases[i].names[k]; k++)
            forge_member(&file, cases[i].names[k], GOOD, strlen(GOOD));
        forge_directory(&file);
        refused(&file, cases[i].expected);
    }
    struct forged file = {0};
    char inner[64];
    struct forged hidden = {0};
    forge_member(&hidden, "a/inner", "x", 1);
    memcpy(inner, hidden.data, hidden.size);
    forge_member(&file, "a/data.pkl", GOOD, strlen(GOOD));
    forge_member(&file, "a/data/0", inner, hidden.size);
    file.local[file.members++] = file.local[1] + 30 + strlen("a/data/0");
    forge_directory(&file);
    free(hidden.data);
    refused(&file, "two members overlap");
}

// The same with the fields of zip64 in use.
static struct forged wide_zip(size_t *locator)
{
    struct forged file = good_zip();
    // The offset of member 2 moves into an extra field; it is the last one of the directory.
    file.size -= 22;
    forge_patch(&file, file.entry[2] + 42, 4, UINT32_MAX);
    forge_patch(&file, file.entry[2] + 30, 2, 12);
    forge_number(&file, 2, 1);
    forge_number(&file, 2, 8);
    forge_number(&file, 8, file.local[2]);
    size_t end = file.size;
    forge_text(&file, "PK\6\6");
    forge_number(&file, 8, 44);
    forge_number(&file, 4, 45);
    forge_number(&file, 8, 0);
    forge_number(&file, 8, file.members);
    forge_number(&file, 8, file.members);
    forge_number(&file, 8, end - file.directory);
    forge_number(&file, 8, file.directory);
    *locator = file.size;
    forge_text(&file, "PK\6\7");
    forge_number(&file, 4, 0);
    forge_number(&file, 8, end);
    forge_number(&file, 4, 1);
    forge_text(&file, "PK\5\6");
    forge_number(&file, 4, 0);
    forge_number(&file, 4, UINT32_MAX);
    forge_number(&file, 8, UINT64_MAX);
    forge_number(&file, 2, 0);
    return file;
}

static void test_zip64(void)
{
    static const struct {
        int at; // from the locator
        size_t size;
        uint64_t value;
        const char *expected;
    } cases[] = {
        {0, 4, 0, "expected the directory before it"},
        {4, 4, 1, "expected the zip64 end"},
        {8, 8, UINT64_MAX, "expected the zip64 end"},
        {8, 8, 0, "expected the zip64 end"},
        {16, 4, 2, "expected the zip64 end"},
        {-56, 4, 0, "expected the zip64 end"},
        {-52, 8, UINT64_MAX, "expected the zip64 end"},
        {-40, 4, 1, "a zip archive of several files"},
        {-32, 8, 4, "a zip archive of several files"},
        {-16, 8, UINT64_MAX, "expected the directory before it"},
        {-8, 8, UINT64_MAX, "expected the directory before it"},
        {20 + 4, 2, 1, "the two ends of the zip archive differ"},
        {20 + 10, 2, 2, "the two ends of the zip archive differ"},
        {20 + 12, 4, 1, "the two ends of the zip archive differ"},
        {-64, 8, UINT64_MAX, "expected the header of a member"},
        {-64, 8, 0, "differs from the directory's"},
        {-66, 2, 7, "a member's extra fields"},
        {-68, 2, 2, "expected sizes in a zip64 field, found none"},
    };
    size_t locator;
    struct forged file = wide_zip(&locator);
    struct weights weights;
    forge_write(&file, path);
    free(file.data);
    bool good = weights_open(&weights, path) == 0;
    ok(good && weights.n_weights == 2, "zip64 fields are read");
    if (good)
        weights_close(&weights);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file = wide_zip(&locator);
        forge_patch(&file, locator + (size_t)cases[i].at, cases[i].size, cases[i].value);
        refused(&file, cases[i].expected);
    }
}

// Whether the file is read or refused when it is cut: at each of its first bytes, then after every
// `every` bytes.
static bool survives_cuts(const struct forged *file, size_t every)
{
    forge_write(file, path);
    for (size_t size = file->size - 1; size + 1 > 0; size -= size < every ? 1 : every)
        if (truncate(path, (off_t)size) || !survives()) {
            diag("cut to %zu bytes: %s", size, error_message());
            return false;
        }
    return true;
}

static bool survives_flips(const struct forged *file, size_t from, size_t to)
{
    forge_write(file, path);
    int fd = open(path, O_WRONLY);
    bool good = fd >= 0;
    for (size_t at = from; good && at < to; at++)
        for (unsigned bit = 0; good && bit < 8; bit++) {
            uint8_t byte = (uint8_t)(file->data[at] ^ 1u << bit);
            good = pwrite(fd, &byte, 1, (off_t)at) == 1 && survives() &&
                   pwrite(fd, &file->data[at], 1, (off_t)at) == 1;
            if (!good)
                diag("byte %zu, bit %u: %s", at, bit, error_message());
        }
    close(fd);
    return good;
}

static void test_damage(void)
{
    size_t locator;
    struct forged files[] = {good_zip(), wide_zip(&locator), forge_legacy(GOOD, LISTED)};
    static const char *const names[] = {"a zip archive", "one with zip64", "the older layout"};
    for (size_t i = 0; i < 3; i++) {
        ok(survives_cuts(&files[i], 1), "%s, cut at every byte, does no harm", names[i]);
        ok(survives_flips(&files[i], 0, files[i].size), "%s with any bit flipped does no harm",
           names[i]);
        free(files[i].data);
    }
    static const struct {
        const char *name;
        size_t every, start, size; // bytes in which bits are flipped
    } published[] = {
        {"dit-a-plain.pt", 4001, 64, 300},
        {"dit-a-legacy.pt", 4001, 0, 400},
        {"vae-diffusers-half.safetensors", 40009, 0, 40},
    };
    for (size_t i = 0; i < 3; i++) {
        char name[4096], buffer[4096];
        struct forged file = {0};
        snprintf(name, sizeof name, "%s/%s", reference_dir(), published[i].name);
        FILE *in = fopen(name, "rb");
        for (size_t n; in && (n = fread(buffer, 1, sizeof buffer, in));)
            forge_bytes(&file, buffer, n);
        if (in)
            fclose(in);
        ok(file.size && survives_cuts(&file, published[i].every), "%s, cut anywhere, does no harm",
           published[i].name);
        ok(file.size &&
               survives_flips(&file, published[i].start, published[i].start + published[i].size),
           "%s with bits flipped does no harm", published[i].name);
        free(file.data);
    }
}

// Opens the file in a process of its own; its memory beyond the file, in MiB.
static long memory_of(const struct forged *file, bool *refused_well)
{
    forge_write(file, path);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(survives() ? 0 : 1);
    int status = 1;
    struct rusage usage = {0};
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        exit(2);
    *refused_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return usage.ru_maxrss / 1024 - (long)(file->size >> 20);
}

static void is_bounded(struct forged *file, const char *name)
{
    bool good;
    long memory = memory_of(file, &good);
    free(file->data);
    ok(good, "%s: opening it does no harm", name);
#ifdef __SANITIZE_ADDRESS__
    (void)memory;
    skip("... and takes little memory", "AddressSanitizer takes memory of its own");
#else
    if (!ok(memory < 250, "... and takes little memory"))
        diag("%ld MiB", memory);
#endif
}

// A pickle that consists of start, n times middle, and end.
static void test_repeated(const char *name, const char *start, const char *middle, size_t n,
                          const char *end)
{
    struct forged pickle = {0}, file;
    forge_text(&pickle, start);
    for (size_t i = 0; i < n; i++)
        forge_text(&pickle, middle);
    forge_text(&pickle, end);
    file = forge_zip(pickle.data, pickle.size);
    is_bounded(&file, name);
    free(pickle.data);
}

static void test_bombs(void)
{
    static const char twice[] = "}S'a'\ng0\nsS'b'\ng0\nsp0\n0";
    const size_t all = PICKLE_OPERATIONS_MAX;
    // 2^39 leaves in a file of few bytes.
    test_repeated("a tuple of 2^39 leaves", "(dS'a'\n)", "2\x86", 39, "s" FORGE_ITEM("b", ONE) ".");
    test_repeated("a tuple of 2^39 leaves as dicts", "}p0\n0", twice, 39, "g0\n.");
    test_repeated("a tuple of 2^39 leaves as dicts of tensors", "}p0\n" FORGE_ITEM("t", ONE) "0",
                  twice, 39, "g0\n.");
    test_repeated("a dict in itself", "}p0\nS'a'\ng0\ns.", "", 0, "");
    test_repeated("a list in itself", "}S'b'\n" ONE "sS'a'\n]p0\ng0\nas.", "", 0, "");
    test_repeated("dicts in dicts", "", "}S'a'\n", 1000, "N");
    test_repeated("lists in lists", "(dS'a'\n", "]", all / 4, ".");
    test_repeated("tuples in tuples", "(dS'a'\nN", "\x85", all / 2, "s" FORGE_ITEM("b", ONE) ".");
    test_repeated("too many operations", "", "]", 4 * all, ".");
    test_repeated("too many operations that name classes", "", "c\n\n", all, ".");
    test_repeated("too many operations that make objects", "", "(i\n\n", all, ".");
    test_repeated("too many operations that fill the memo", "", "c\n\n\x94", all, ".");
    test_repeated("too many operations that make persistent ids", "N", "2Q", all, ".");
    test_repeated("too many operations that call", "Np0\n", "g0\n)R", all, ".");
    test_repeated("too many operations that add to lists", "]", "](Ne", all, ".");
    test_repeated("too many operations that add to one list", "]", "Na", all, ".");
    test_repeated("too many operations that add to dicts", "]", "}(NNu", all, ".");
    test_repeated("a memo with a hole", "N", "p1048575\n", 1, ".");
}

// A dict with one key, whose value is a dict of n integer keys that share one value.
static void test_crowd(const char *name, size_t n, const char *key, const char *value)
{
    struct forged pickle = {0}, file;
    forge_text(&pickle, value);
    forge_text(&pickle, "p0\n0(S'");
    forge_text(&pickle, key);
    forge_text(&pickle, "'\n(");
    for (size_t i = 0; i < n; i++) {
        forge_text(&pickle, "J");
        forge_number(&pickle, 4, i);
        forge_text(&pickle, "g0\n");
    }
    forge_text(&pickle, "dd.");
    file = forge_zip(pickle.data, pickle.size);
    is_bounded(&file, name);
    free(pickle.data);
}

static void test_crowds(void)
{
    struct forged text = {0}, value = {0};
    for (size_t i = 0; i < 1 << 20; i++)
        forge_text(&text, "x");
    forge_bytes(&text, "", 1);
    forge_text(&value, "S'");
    forge_text(&value, (const char *)text.data);
    forge_bytes(&value, "'\n", 3);
    test_crowd("too many tensors", 70000, "a", ONE);
    test_crowd("too many numbers", 400000, "a", "I1\n");
    test_crowd("a long text as many values", 400000, "a", (const char *)value.data);
    test_crowd("a long key of many tensors", 60000, (const char *)text.data, ONE);
    text.data[WEIGHTS_NAME_MAX - 10] = 0;
    test_crowd("long names of many tensors", 60000, (const char *)text.data, ONE);
    test_crowd("long names of many numbers", 400000, (const char *)text.data, "I1\n");
    free(text.data);
    free(value.data);
}

// The header of a safetensors document that is all small values.
static void test_headers(void)
{
    static const char *const parts[] = {"{},", "[],", "0,", "{\"\":0},"};
    for (size_t i = 0; i < 8; i++) {
        const char *part = parts[i / 2];
        size_t size = (size_t)(i % 2 ? 90 << 10 : 700) << 10, n = (size - 20) / strlen(part);
        struct forged file = {0};
        forge_number(&file, 8, 9 + n * strlen(part));
        forge_text(&file, "{\"a\":[");
        for (size_t k = 0; k < n; k++)
            forge_text(&file, part);
        forge_text(&file, "0]}");
        char name[64];
        snprintf(name, sizeof name, "a header of %s values %s", i % 2 ? "far too many" : "many",
                 part);
        is_bounded(&file, name);
    }
}

// As a checkpoint has it that lists many files.
static void test_long_metadata(void)
{
    const size_t n = (size_t)3 << 20;
    struct forged file = {0};
    struct weights weights;
    forge_number(&file, 8, n + 25);
    forge_text(&file, "{\"__metadata__\":{\"a\":\"");
    for (size_t k = 0; k < n; k++)
        forge_text(&file, "x");
    forge_text(&file, "\"}}");
    forge_write(&file, path);
    free(file.data);
    bool opened = weights_open(&weights, path) == 0;
    ok(opened && strlen(weights_get(&weights, "a")) == n, "metadata of 3 MiB is read");
    if (opened)
        weights_close(&weights);
    else
        diag("%s", error_message());
}

static void test_kept_files(void)
{
    static const char *const files[][2] = {
        {"calls-os-system.pt", "found a call of os.system"},
        {"cut.pt", "the file was cut short"},
        {"directory-lies.pt", "differs from the directory's"},
        {"leaves-2-39.pt", "no tensor in its dicts"},
        {"strides-leave-storage.pt", "number 26 of a storage of 24"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[256];
        struct weights weights;
        snprintf(name, sizeof name, "tests/data/broken/%s", files[i][0]);
        ok(weights_open(&weights, name) == -1 && error_status() == STATUS_DATA &&
               strstr(error_message(), files[i][1]),
           "%s is refused", files[i][0]);
    }
}

// A pickle that would make a folder when it is loaded by Python.
static void test_execution(void)
{
    char folder[sizeof path + 8], pickle[1024];
    snprintf(folder, sizeof folder, "%s.made", path);
    static const char *const calls[] = {
        "cos\nsystem\n(S'mkdir %s'\ntR",
        "cposix\nmkdir\n(S'%s'\ntR",
        "(S'mkdir %s'\nios\nsystem\n",
        "(cos\nsystem\nS'mkdir %s'\no",
        "cos\nsystem\n(S'mkdir %s'\nt\x81",
        "c__builtin__\neval\n(S'__import__(\"os\").mkdir(\"%s\")'\ntR",
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char call[512];
        snprintf(call, sizeof call, calls[i], folder);
        snprintf(pickle, sizeof pickle, "%s.", call);
        struct forged file = forge_zip(pickle, strlen(pickle));
        refused(&file, "found a call of");
        ok(access(folder, F_OK), "... and call %zu is not made", i);
        snprintf(pickle, sizeof pickle, "(dS'a'\n" ONE "sS'b'\n%ss.", call);
        file = forge_zip(pickle, strlen(pickle));
        forge_write(&file, path);
        free(file.data);
        struct weights weights;
        bool good = weights_open(&weights, path) == 0;
        ok(good && weights.n_weights == 1 && access(folder, F_OK),
           "... nor call %zu beside a tensor, where it is passed over", i);
        if (good)
            weights_close(&weights);
    }
}

int main(void)
{
    int fd = mkstemp(path);
    close(fd);
    test_pickles();
    test_legacy();
    test_kinds();
    test_directory();
    test_members();
    test_zip64();
    test_damage();
    test_execution();
    test_kept_files();
    test_bombs();
    test_crowds();
    test_headers();
    test_long_metadata();
    unlink(path);
    return tap_done();
}
