// Fuzz targets for what people bring: archives, arrays, image, lists, npy, options and resume.
// SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bin/dit-train/training.h"
#include "formats/containers/arrays.h"
#include "formats/containers/npy.h"
#include "formats/images/class-choice.h"
#include "formats/images/dataset-json.h"
#include "formats/images/image-archive.h"
#include "formats/images/image-file.h"
#include "formats/images/image-list.h"
#include "formats/images/resample.h"
#include "formats/latents/features.h"
#include "tests/fuzz/fuzz.h"

// A byte of flags, and an image file.
void fuzz_image(const uint8_t *data, size_t size)
{
    enum { SIDE = 7, EXIF = 8, WHOLE = 16 };
    static const size_t sides[] = {8, 16, 31, 64, 100, 256, 9, 257};
    struct fuzz_bytes from = {data, size};
    size_t flags = fuzz_number(&from, 1), side = sides[flags & SIDE];
    uint8_t *square = malloc(3 * side * side);
    struct image image;
    fuzz_promise(square, "there is memory for a small picture");
    for (int whole = 0; whole <= !!(flags & WHOLE); whole++) {
        const struct image_options options = {.crop = whole ? 0 : side, .exif = flags & EXIF};
        if (fuzz_succeeded(image_decode(&image, from.data, from.size, &options))) {
            fuzz_succeeded(resample_crop(image.rgb, image.width, image.height, side,
                                         RESAMPLE_HORIZONTAL_FIRST, square));
            image_free(&image);
        }
    }
    free(square);
}

static void choose_classes(struct fuzz_bytes text, const char *names, size_t classes)
{
    struct class_choice choice;
    char *spec = strndup((const char *)text.data, text.size);
    fuzz_promise(spec, "there is memory for a list of classes");
    if (fuzz_succeeded(class_choice_parse(&choice, spec, names, classes, true))) {
        for (uint64_t i = 0; i < 4; i++) {
            int32_t class = class_choice_get(&choice, 7, i);
            fuzz_promise(class >= 0 && (size_t) class <= classes, "a class is one of the model's");
        }
        class_choice_free(&choice);
    }
    if (fuzz_succeeded(class_choice_parse(&choice, spec, spec, 5, false)))
        class_choice_free(&choice);
    free(spec);
}

static void read_list(const char *path, const char *classes, size_t flags)
{
    enum { NUL = 1, CLASSES = 2, NO_LABELS = 4, PART = 8 };
    char *none[] = {NULL};
    struct image_entry entry;
    int rc = -1;
    fuzz_promise(freopen(path, "r", stdin), "files can be read");
    struct image_list *list = image_list_open(&(struct image_list_options){
        .paths = none,
        .nul = flags & NUL,
        .classes = flags & CLASSES ? classes : NULL,
        .no_labels = flags & NO_LABELS,
        .part = {flags & PART ? 1 : 0, flags & PART ? 2 : 1},
    });
    while (list && (rc = image_list_next(list, &entry)) > 0) {
        fuzz_promise(*entry.path && entry.label >= -1, "an image has a path and a label or none");
        free(entry.data);
    }
    fuzz_succeeded(rc);
    if (list)
        image_list_close(list);
}

// A byte of flags, the size of a file of classes in 16 bits, that file, and a list of images, which
// is also taken for a choice of classes.
void fuzz_lists(const uint8_t *data, size_t size)
{
    enum { ALL = 64 };
    struct fuzz_bytes from = {data, size};
    size_t flags = fuzz_number(&from, 1), n = fuzz_number(&from, 2);
    struct fuzz_bytes classes = fuzz_take(&from, n);
    struct class_names names = {0};
    fuzz_write("classes", classes.data, classes.size);
    fuzz_write("list", from.data, from.size);
    char *classes_path = fuzz_path("classes"), *list_path = fuzz_path("list");
    if (fuzz_succeeded(class_names_read(&names, classes_path))) {
        char *json = class_names_json(&names);
        if (!json)
            fuzz_check_error();
        else if (names.n)
            choose_classes(from, json, flags & ALL ? names.n : 1 + flags % ALL);
        free(json);
    }
    class_names_free(&names);
    read_list(list_path, classes_path, flags);
    free(classes_path);
    free(list_path);
}

// A byte that tells the ending of its name, and an archive of pictures, or a dataset.json.
void fuzz_archives(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"x.tar", "x.zip"};
    struct fuzz_bytes from = {data, size};
    const size_t kind = fuzz_number(&from, 1) % 3;
    if (kind == 2) {
        struct dataset_labels labels = {0};
        int64_t label = 0;
        if (fuzz_succeeded(dataset_labels_parse(&labels, (const char *)from.data, from.size)) &&
            dataset_labels_find(&labels, "a.jpg", &label))
            fuzz_promise(label >= 0, "a label is the number of a class");
        dataset_labels_free(&labels);
        return;
    }
    fuzz_write(names[kind], from.data, from.size);
    char *path = fuzz_path(names[kind]);
    struct image_archive *archive = image_archive_open(path, NULL, 0, 1 << 20);
    struct archive_picture picture;
    int rc = -1;
    for (size_t n = 0; archive && (rc = image_archive_next(archive, n % 2, &picture)) > 0; n++) {
        fuzz_promise(picture.folder_length && picture.size <= 1 << 20, "pictures keep the limit");
        if (picture.bad)
            fuzz_check_error();
        free(picture.data);
    }
    fuzz_succeeded(rc);
    image_archive_close(archive);
    free(path);
}

static void ignore_stray(const char *path)
{
    (void)path;
}

// An archive of arrays, each of which is read to its end.
void fuzz_arrays(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"arr_0", "mu", "sigma", "features"};
    struct arrays arrays;
    fuzz_write("x.npz", data, size);
    char *path = fuzz_path("x.npz");
    if (fuzz_succeeded(arrays_open(&arrays, path))) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            uint8_t values[1000 * sizeof(double)];
            struct array *array =
                arrays_have(&arrays, names[i]) ? array_open(&arrays, names[i]) : NULL;
            if (!array)
                continue;
            fuzz_promise(array->npy.rank <= TENSOR_RANK_MAX, "an array has at most 8 dimensions");
            size_t left = array->npy.count < 1000000 ? array->npy.count : 1000000, n = 0;
            for (int rc = 0; rc == 0 && left > 0; left -= n) {
                n = left < 1000 ? left : 1000;
                if (!fuzz_succeeded(rc = array_read(array, values, n)))
                    break;
            }
            array_close(array);
        }
        arrays_close(&arrays);
    }
    free(path);
}

// The size of a latent's file in 16 bits, that file, and a label's.
void fuzz_npy(const uint8_t *data, size_t size)
{
    static const char *const folders[] = {"x_features", "x_labels"};
    struct fuzz_bytes from = {data, size};
    size_t n = fuzz_number(&from, 2);
    struct npy npy;
    if (fuzz_succeeded(npy_parse(&npy, from.data, from.size)))
        fuzz_promise(npy.data >= from.data &&
                         npy.data + npy.count * dtype_size(npy.dtype) <= from.data + from.size,
                     "an array lies in its file");
    for (size_t i = 0; i < 2; i++) {
        char *folder = fuzz_path(folders[i]);
        mkdir(folder, 0700);
        free(folder);
    }
    struct fuzz_bytes latent = fuzz_take(&from, n);
    fuzz_write("x_features/0.npy", latent.data, latent.size);
    fuzz_write("x_labels/0.npy", from.data, from.size);
    struct features features;
    char *paths[] = {(char *)(uintptr_t)fuzz_folder(), NULL};
    if (!fuzz_succeeded(features_open(&features, paths, false, ignore_stray)))
        return;
    float *mean = calloc(features.count + 1, sizeof *mean);
    float *std = calloc(features.count + 1, sizeof *std);
    fuzz_promise(mean && std, "there is memory for a latent");
    for (size_t i = 0; i < features.n; i++) {
        int64_t label = -1;
        if (fuzz_succeeded(features_read(&features, i, mean, std, &label)))
            fuzz_promise(label >= -1, "a label is a class or none");
    }
    free(mean);
    free(std);
    features_close(&features);
}

// The arguments of a command line, each ended by a 0 byte.
void fuzz_options(const uint8_t *data, size_t size)
{
    enum { MOST = 64 };
    const char *model = NULL, *run = NULL;
    int64_t depth = 1, level = 1, steps = 1;
    double lr = 0;
    uint64_t memory = 0, seed = 0;
    bool cache = false;
    int recompute = 0;
    struct part part = {0, 1};
    const struct option options[] = {
        OPTION_STRING("model", 'm', &model, "NAME", "the model"),
        OPTION_STRING("run", 'o', &run, "FOLDER", "the folder"),
        OPTION_INT("depth", 0, &depth, 1, 1024, "a small number"),
        OPTION_INT("level", 'z', &level, -512, 19, "a number that may be negative"),
        OPTION_INT("steps", 'n', &steps, 1, 1e15, "a large number"),
        OPTION_FLOAT("lr", 0, &lr, 0, 1000, "a number"),
        OPTION_SIZE("memory", 'M', &memory, "bytes"),
        OPTION_SEED("seed", 0, &seed, "the seed"),
        OPTION_FLAG("cache", 'c', &cache, "a flag"),
        OPTION_CHOICE("recompute", 'r', &recompute, "a choice", "none", "light", "block"),
        OPTION_PART("part", 'p', &part, "a part"),
        OPTION_END,
    };
    char *text = malloc(size + 1), program[] = "fuzz", *argv[MOST + 1] = {program},
         *operands[MOST + 1];
    int argc = 1;
    fuzz_promise(text, "there is memory for a command line");
    memcpy(text, data, size);
    text[size] = 0;
    for (size_t at = 0; at < size && argc < MOST; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    if (fuzz_succeeded(options_parse(options, argc, argv, operands, NULL))) {
        fuzz_promise(depth >= 1 && depth <= 1024 && lr >= 0 && lr <= 1000, "values are in range");
        fuzz_promise(part.index < part.count, "a part is one of all");
        for (const struct option *o = options; o->type != OPTION_TYPE_END; o++) {
            char *before, *after = NULL;
            if (!fuzz_succeeded(options_value_text(o, &before)) || !before)
                continue;
            fuzz_promise(options_set_value(o, before) == 0 && options_value_text(o, &after) == 0 &&
                             strcmp(before, after) == 0,
                         "a value is the same after it was written and read");
            free(after);
            free(before);
        }
    }
    free(text);
}

// The metadata of a checkpoint as JSON, or a log.
void fuzz_resume(const uint8_t *data, size_t size)
{
    static struct run_folder run;
    uint64_t number;
    fuzz_write("log.jsonl", data, size);
    if (!run.path) {
        struct train_options *options;
        char program[] = "dit-train", *argv[] = {program, NULL};
        train_options_parse(&options, 1, argv);
        tool.quiet = true;
        fuzz_promise(run_folder_open(&run, fuzz_folder()) == 0,
                     "the folder of a run can be opened");
    }
    json_t *metadata = json_loadb((const char *)data, size, 0, NULL);
    if (json_is_object(metadata)) {
        char path[] = "checkpoint";
        struct dit_file file = {.path = path, .weights.metadata = metadata};
        fuzz_succeeded(dit_file_number(&file, "step", &number));
        training_was_one_pass(&file);
        fuzz_succeeded(train_options_restore(metadata));
    }
    json_decref(metadata);
    if (fuzz_succeeded(run_folder_open_log(&run, 3)))
        close(run.log);
    run.log = -1;
}
