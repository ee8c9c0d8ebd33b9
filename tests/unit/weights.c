// weights_open reads the same tensors from every kind of file that holds them.
// SPDX-License-Identifier: MIT
#include "formats/weights/weights.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "tests/forge.h"
#include "tests/reference.h"

static char path[] = "/tmp/weights-XXXXXX";

static struct weights open_reference(const char *name)
{
    struct weights weights;
    // close_reference frees the path, which the weights keep.
    char *file = path_join(reference_dir(), name);
    if (!file || weights_open(&weights, file) < 0)
        bail_out();
    return weights;
}

static void close_reference(struct weights *weights)
{
    free((void *)(uintptr_t)weights->path);
    weights_close(weights);
}

static bool has_file(const char *name)
{
    char *file = path_join(reference_dir(), name);
    bool there = file && access(file, R_OK) == 0;
    free(file);
    if (!there)
        skip(name, "not in the folder of reference data");
    return there;
}

static float *floats_of(const struct weight *weight)
{
    float *values = mem_new(weight_count(weight), sizeof *values);
    if (!values || weight_read_floats(weight, 0, weight_rows(weight), values) < 0)
        bail_out();
    return values;
}

static bool same_shape(const struct weight *a, const struct weight *b)
{
    return a->rank == b->rank && !memcmp(a->shape, b->shape, a->rank * sizeof *a->shape);
}

static float as_is(float value)
{
    return value;
}

static float through_f16(float value)
{
    return f16_to_f32(f16_from_f32(value));
}

static float through_bf16(float value)
{
    return bf16_to_f32(bf16_from_f32(value));
}

static float halved(float value)
{
    return 0.5f * value;
}

// Whether a holds change(b).
static bool is_changed(const struct weight *a, const struct weight *b, float (*change)(float))
{
    if (!same_shape(a, b))
        return false;
    float *got = floats_of(a), *expected = floats_of(b);
    bool same = true;
    for (size_t i = 0; i < weight_count(a); i++)
        same = same && got[i] == change(expected[i]);
    free(got);
    free(expected);
    return same;
}

// Whether `weights` holds all tensors of `base`, changed, under prefix + name.
static bool holds(const struct weights *weights, const char *prefix, const struct weights *base,
                  float (*change)(float))
{
    for (size_t i = 0; i < base->n_weights; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", prefix, base->all[i].name);
        const struct weight *weight = weights_find(weights, name);
        if (!weight || !is_changed(weight, &base->all[i], change)) {
            diag("%s: %s %s", weights->path, name, weight ? "differs" : "is missing");
            return false;
        }
    }
    return true;
}

static void test_dit(void)
{
    static const struct {
        const char *file;
        float (*change)(float);
    } files[] = {
        {"dit-a-plain.pt", as_is},
        {"dit-a-legacy.pt", as_is},
        {"dit-a-half.pt", through_f16},
        {"dit-a-bf16.pt", through_bf16},
    };
    struct weights base = open_reference("dit-a.safetensors");
    ok(base.n_weights == 32 && !strcmp(weights_get(&base, "num_heads"), "4"),
       "dit-a.safetensors: tensors and metadata");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct weights weights = open_reference(files[i].file);
        ok(weights.n_weights == 32 && holds(&weights, "", &base, files[i].change),
           "%s holds the same tensors", files[i].file);
        ok(!strcmp(weights.all[0].name, "pos_embed") && !weights_find(&weights, "pos_embe") &&
               !weights_find(&weights, "zzz") && !weights_find(&weights, ""),
           "%s: tensors have the dict's order, and no others are found", files[i].file);
        close_reference(&weights);
    }
    struct weights train = open_reference("dit-a-train.pt");
    ok(train.n_weights == 64 && holds(&train, "model.", &base, as_is) &&
           holds(&train, "ema.", &base, halved),
       "dit-a-train.pt holds model and ema");
    ok(!strcmp(weights_get(&train, "args.model"), "DiT-S/2") &&
           !strcmp(weights_get(&train, "args.num_classes"), "10") && !weights_get(&train, "args"),
       "dit-a-train.pt holds the arguments of the training program");
    close_reference(&train);
    close_reference(&base);
}

// Whether each tensor has the same values as some tensor of `base`, under whatever name.
static bool holds_renamed(const struct weights *weights, const struct weights *base)
{
    for (size_t i = 0; i < weights->n_weights; i++) {
        const struct weight *weight = &weights->all[i];
        float *values = floats_of(weight);
        bool found = false;
        for (size_t k = 0; !found && k < base->n_weights; k++) {
            if (weight_count(&base->all[k]) != weight_count(weight))
                continue;
            float *others = floats_of(&base->all[k]);
            found = !memcmp(values, others, weight_count(weight) * sizeof *values);
            free(others);
        }
        free(values);
        if (!found) {
            diag("%s: %s is not in %s", weights->path, weight->name, base->path);
            return false;
        }
    }
    return true;
}

static void test_autoencoder(void)
{
    struct weights base = open_reference("vae-diffusers-half.safetensors");
    static const char *const same[] = {"vae-diffusers.safetensors", "vae-diffusers.bin"};
    static const char *const renamed[] = {"vae-diffusers-old.safetensors", "vae-compvis.ckpt"};
    ok(base.n_weights == 244 && base.all[0].dtype == DTYPE_F16, "vae-diffusers-half.safetensors");
    for (size_t i = 0; i < 2; i++)
        if (has_file(same[i])) {
            struct weights weights = open_reference(same[i]);
            ok(weights.n_weights == 244 && holds(&weights, "", &base, as_is),
               "%s holds the same tensors", same[i]);
            close_reference(&weights);
        }
    for (size_t i = 0; i < 2; i++)
        if (has_file(renamed[i])) {
            struct weights weights = open_reference(renamed[i]);
            ok(weights.n_weights == 244 && holds_renamed(&weights, &base),
               "%s holds the same tensors under other names", renamed[i]);
            const char *step = weights_get(&weights, "global_step");
            ok(i == 0 || (step && !strcmp(step, "7")), "%s holds its numbers", renamed[i]);
            close_reference(&weights);
        }
    close_reference(&base);
}

// A file whose pickle is these parts, up to NULL.
static struct weights open_parts(const char *const *parts)
{
    struct forged pickle = {0}, file;
    struct weights weights;
    for (; *parts; parts++)
        forge_text(&pickle, *parts);
    file = forge_zip(pickle.data, pickle.size);
    forge_write(&file, path);
    free(pickle.data);
    free(file.data);
    if (weights_open(&weights, path) < 0)
        bail_out();
    return weights;
}

// A dict of these items.
#define OPEN(...)                      open_parts((const char *const[]){"(d", __VA_ARGS__, ".", NULL})
#define TENSOR(offset, shape, strides) FORGE_TENSOR("0", "24", offset, shape, strides)
#define ONE                            TENSOR("0", "I2\n", "I1\n")

static bool reads(const struct weights *weights, const char *name, size_t row, size_t rows,
                  size_t n, const float *expected)
{
    const struct weight *weight = weights_find(weights, name);
    float values[64] = {0}, raw[64] = {0};
    if (!weight || weight_read_floats(weight, row, rows, values) < 0)
        return false;
    weight_read(weight, row, rows, raw);
    return !memcmp(values, expected, n * sizeof *values) && !memcmp(raw, values, sizeof raw);
}

static void test_strides(void)
{
    struct weights weights =
        OPEN(FORGE_ITEM("plain", TENSOR("0", "I4\nI6\n", "I6\nI1\n")),
             FORGE_ITEM("turned", TENSOR("0", "I6\nI4\n", "I1\nI6\n")),
             FORGE_ITEM("part", TENSOR("7", "I2\nI3\n", "I6\nI2\n")),
             FORGE_ITEM("columns", TENSOR("2", "I2\nI2\nI2\n", "I12\nI6\nI1\n")),
             FORGE_ITEM("spread", TENSOR("5", "I3\nI2\n", "I0\nI1\n")),
             FORGE_ITEM("scalar", TENSOR("23", "", "")),
             FORGE_ITEM("empty", TENSOR("99", "I0\nI3\n", "I3\nI1\n")),
             FORGE_ITEM("one", TENSOR("3", "I1\nI2\nI1\n", "I99\nI1\nI77\n")));
    ok(weights.n_weights == 8 && !strcmp(weights.all[7].name, "one"), "tensors share a storage");
    ok(reads(&weights, "plain", 1, 1, 6, (float[]){6, 7, 8, 9, 10, 11}), "a row of a matrix");
    ok(reads(&weights, "turned", 0, 2, 8, (float[]){0, 6, 12, 18, 1, 7, 13, 19}),
       "rows of a transposed matrix");
    ok(reads(&weights, "turned", 5, 1, 4, (float[]){5, 11, 17, 23}), "... its last one");
    ok(reads(&weights, "part", 0, 2, 6, (float[]){7, 9, 11, 13, 15, 17}), "every second element");
    ok(reads(&weights, "columns", 0, 2, 8, (float[]){2, 3, 8, 9, 14, 15, 20, 21}),
       "a block of a larger one");
    ok(reads(&weights, "columns", 1, 1, 4, (float[]){14, 15, 20, 21}), "... one row of it");
    ok(reads(&weights, "spread", 0, 3, 6, (float[]){5, 6, 5, 6, 5, 6}), "strides of 0");
    ok(reads(&weights, "scalar", 0, 1, 1, (float[]){23}) &&
           weight_count(weights_find(&weights, "scalar")) == 1,
       "a scalar");
    ok(reads(&weights, "empty", 0, 0, 0, (float[]){0}) &&
           !weight_count(weights_find(&weights, "empty")),
       "a tensor without elements, which may begin anywhere");
    ok(reads(&weights, "one", 0, 1, 2, (float[]){3, 4}),
       "the stride of a dimension of size 1 doesn't matter");
    static const struct {
        const char *name;
        bool in_order;
    } places[] = {{"plain", true},   {"turned", false}, {"part", false}, {"columns", false},
                  {"spread", false}, {"scalar", true},  {"one", true}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const struct weight *weight = weights_find(&weights, places[i].name);
        bool aligned = (uintptr_t)weight->data % sizeof(float) == 0;
        ok(!!weight_in_place(weight) == (places[i].in_order && aligned), "\"%s\" %s in order",
           places[i].name, places[i].in_order ? "is" : "is not");
    }
    weights_close(&weights);

    size_t in_place = 0;
    for (size_t digits = 0; digits < 4; digits++) {
        // An integer that the pickle drops again moves the storage by its number of digits.
        static const char number[] = "I1111\n0";
        const char *const parts[] = {"I1", number + 5 - digits,
                                     "(d", FORGE_ITEM("a", TENSOR("0", "I24\n", "I1\n")),
                                     ".",  NULL};
        weights = open_parts(parts);
        in_place += weight_in_place(&weights.all[0]) != NULL;
        ok(weight_count(&weights.all[0]) == 24 && reads(&weights, "a", 3, 2, 2, (float[]){3, 4}),
           "floats are read %zu bytes past their usual address", digits);
        weights_close(&weights);
    }
    ok(in_place == 1, "... but are used in place only where they are aligned");
}

static void test_types(void)
{
    static const struct {
        const char *module, *storage;
        enum dtype dtype;
    } types[] = {
        {"torch", "DoubleStorage", DTYPE_F64},    {"torch", "FloatStorage", DTYPE_F32},
        {"torch", "HalfStorage", DTYPE_F16},      {"torch", "BFloat16Storage", DTYPE_BF16},
        {"torch", "LongStorage", DTYPE_I64},      {"torch", "IntStorage", DTYPE_I32},
        {"torch", "ShortStorage", DTYPE_I16},     {"torch", "CharStorage", DTYPE_I8},
        {"torch", "ByteStorage", DTYPE_U8},       {"torch", "BoolStorage", DTYPE_BOOL},
        {"torch.cuda", "HalfStorage", DTYPE_F16}, {"torch.storage", "UntypedStorage", DTYPE_U8},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char tensor[512];
        size_t n = 96 / dtype_size(types[i].dtype);
        snprintf(tensor, sizeof tensor,
                 "S'a'\nctorch._utils\n_rebuild_tensor\n((S'storage'\nc%s\n%s\nS'0'\nS'cuda:0'\n"
                 "I%zu\ntQI0\n(I%zu\nt(I1\nttRs",
                 types[i].module, types[i].storage, n, n);
        struct weights weights = OPEN(tensor);
        ok(weights.n_weights == 1 && weights.all[0].dtype == types[i].dtype &&
               weights.all[0].shape[0] == n,
           "storages of the class %s.%s", types[i].module, types[i].storage);
        float values[96];
        bool floating = i < 4 || i == 10;
        int rc = weight_read_floats(&weights.all[0], 0, n, values);
        ok(floating ? rc == 0 : rc == -1 && strstr(error_message(), "tensor \"a\""),
           "... %s floats", floating ? "read as" : "not read as");
        weights_close(&weights);
    }
    struct weights weights =
        OPEN("S'a'\nctorch._utils\n_rebuild_tensor_v3\n(",
             FORGE_ID("torch.storage\nUntypedStorage", "0", "96"),
             "I1\n(I5\nt(I2\ntI00\nccollections\nOrderedDict\n(tRctorch\nuint16\ntRs");
    const struct weight *weight = &weights.all[0];
    ok(weight->dtype == DTYPE_U16 && weight->shape[0] == 5 && weight->strides[0] == 2,
       "a tensor with its own type");
    weights_close(&weights);
}

static void test_values(void)
{
    struct weights weights = OPEN(
        "S'od'\nccollections\nOrderedDict\n(tR", FORGE_ITEM("a", ONE),
        "(dS'_metadata'\n" ONE "sbs", // an attribute of a state dict, not in it
        FORGE_ITEM("p", "ctorch._utils\n_rebuild_parameter\n(" ONE "I01\nNtR"),
        FORGE_ITEM("q", "ctorch.nn.parameter\nParameter\n(" ONE "I01\ntR"),
        "S'dd'\nccollections\ndefaultdict\n(c__builtin__\ndict\ntR", FORGE_ITEM("b", ONE), "s",
        "S'args'\ncargparse\nNamespace\n)\x81(d", FORGE_ITEM("lr", "F0.0001\n"),
        FORGE_ITEM("name", "VDiT\n"), FORGE_ITEM("yes", "I01\n"), FORGE_ITEM("no", "I00\n"),
        FORGE_ITEM("none", "N"), FORGE_ITEM("big", "L99999999999999999999L\n"),
        FORGE_ITEM("neg", "L-7L\n"), FORGE_ITEM("third", "G\x3f\xd5UUUUUU"), "bs",
        // Objects, lists and keys that weights_open ignores.
        "S'path'\ncpathlib\nPosixPath\n(S'/'\ntR", FORGE_ITEM("x", ONE), "(dS'x'\nI1\nsbI1\nas",
        FORGE_ITEM("list", "(I1\n" ONE "l"), FORGE_ITEM("tuple", "(" ONE "t"),
        FORGE_ITEM("inst", "(I1\nimodels\nDiT\n"), FORGE_ITEM("obj", "(cmodels\nDiT\nI1\no"),
        "(I1\nI2\ntI3\ns", "S'\\x41'\nI3\ns", "S''\nI3\ns", "F0.5\nI8\ns",
        // Numbers as keys, and metadata without tensors beside it.
        "I5\n(dI6\nI7\nss", "S'metadata'\n(d", FORGE_ITEM("kind", "S'dit'\n"), "s");
    static const char *const names[] = {"od.a", "p", "q", "dd.b"};
    static const char *const metadata[][2] = {
        {"args.lr", "0.0001"}, {"args.name", "DiT"}, {"args.yes", "true"},
        {"args.no", "false"},  {"args.neg", "-7"},   {"args.third", "0.3333333333333333"},
        {"5.6", "7"},          {"kind", "dit"}};
    ok(weights.n_weights == 4, "the tensors in dicts are found, and no others");
    for (size_t i = 0; i < 4; i++)
        ok(reads(&weights, names[i], 0, 2, 2, (float[]){0, 1}), "tensor \"%s\" is found", names[i]);
    ok(json_object_size(weights.metadata) == 8,
       "the numbers and texts in dicts are found, and no others");
    for (size_t i = 0; i < 8; i++) {
        const char *found = weights_get(&weights, metadata[i][0]);
        ok(found && !strcmp(found, metadata[i][1]), "metadata \"%s\" is %s", metadata[i][0],
           found ? found : "missing");
    }
    weights_close(&weights);
}

// All opcodes that Python writes, in a list that weights_open ignores.
static void test_opcodes(void)
{
    static const char before[] =
        "\x80\5\x95\1\0\0\0\0\0\0\0(0(N1N200" // PROTO FRAME MARK POP POP_MARK DUP
        "}X\4\0\0\0list]p0\n("                // EMPTY_DICT EMPTY_LIST PUT
        "N\x88\x89K\1M\1\2J\xff\xff\xff\xff\x8a\1\xff\x8b\1\0\0\0\xff\x8a\0"
        "\x8a\x9zzzzzzzzzI7\nL7L\nF7.0\nG\0\0\0\0\0\0\0\0"
        "U\1aT\1\0\0\0a\x8c\1a\x8d\1\0\0\0\0\0\0\0aS'a'\nVa\n"
        "C\1aB\1\0\0\0a\x8e\1\0\0\0\0\0\0\0a\x96\1\0\0\0\0\0\0\0a"
        ")\x85)NN\x86NNN\x87(NNt(NNl(NNd\x8f(N\x90(N\x91" // tuples, list, dict, sets
        "]Na](Ne}NNs}(NNu"                                // APPEND APPENDS SETITEM SETITEMS
        "ca\nb\n\x8c\1a\x8c\1b\x93"                       // GLOBAL STACK_GLOBAL
        "ca\nb\n)R}bca\nb\n)\x81"
        "ca\nb\n)}\x92(ia\nb\n(ca\nb\no"            // calls of all kinds
        "PN\n)Qq\1r\2\0\0\0\x94g0\nh\1j\2\0\0\0h\3" // persistent ids, the memo
        "esX\1\0\0\0a";
    static const char tensor[] = FORGE_TENSOR("0", "24", "0", "I24\n", "I1\n") "s.";
    struct forged pickle = {0}, file;
    forge_bytes(&pickle, before, sizeof before - 1);
    forge_text(&pickle, tensor);
    file = forge_zip(pickle.data, pickle.size);
    forge_write(&file, path);
    struct weights weights;
    bool good = weights_open(&weights, path) == 0;
    if (!ok(good && weights.n_weights == 1 && json_object_size(weights.metadata) == 0,
            "every opcode is understood"))
        diag("%s", error_message());
    if (good)
        weights_close(&weights);
    free(pickle.data);
    free(file.data);
}

#define VIEW(part) "(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI24\n" part "tQ"

// Parts of a storage, which exist only in the older layout.
static void test_legacy(void)
{
    static const char pickle[] =
        "(dS'all'\n" FORGE_TENSOR_OF(VIEW("N"), "0", "I24\n", "I1\n") "sS'part'\n" FORGE_TENSOR_OF(
            VIEW("(S'1'\nI5\nI3\nt"), "1", "I2\n",
            "I1\n") "sS'list'\n((S'module'\ncmodels\nDiT\nS'a.py'\nS'code'\ntQls.";
    struct forged file = forge_legacy(pickle, "(lS'0'\na.");
    struct weights weights;
    forge_write(&file, path);
    free(file.data);
    if (weights_open(&weights, path) < 0)
        bail_out();
    ok(weights.n_weights == 2 && reads(&weights, "part", 0, 2, 2, (float[]){6, 7}) &&
           reads(&weights, "all", 22, 2, 2, (float[]){22, 23}),
       "a part of a storage in the older layout");
    weights_close(&weights);
}

int main(void)
{
    int fd = mkstemp(path);
    close(fd);
    test_dit();
    test_autoencoder();
    test_strides();
    test_types();
    test_values();
    test_opcodes();
    test_legacy();
    unlink(path);
    return tap_done();
}
