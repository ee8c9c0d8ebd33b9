// Reads one file further than a picture, as its label may follow it. SPDX-License-Identifier: MIT
#include "formats/images/image-archive.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "formats/containers/archive.h"
#include "formats/images/dataset-json.h"
#include "formats/images/image-file.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

#define LABEL_SIZE_MAX   ((size_t)1 << 20)   // bytes of a .cls or .json
#define DATASET_SIZE_MAX ((size_t)256 << 20) // bytes of dataset.json
#define PIECE            ((size_t)256 << 10) // bytes read at a time

struct image_archive {
    struct archive_walk *walk;
    size_t size_max;
    struct dataset_labels dataset;
    struct archive_file file; // where the walk is
    bool pending, ended;      // the file has not been looked at; there is none
    // The last label that stood in a file, and that file's path without its ending.
    char *label_stem;
    int64_t label;
    char *path, *folder;          // of the last picture
    struct archive_picture ahead; // read by image_archive_is_numbered,
    struct error ahead_error;     // ...with its error if it is bad
    bool has_ahead;
};

// Where a name's ending begins: its last dot, or its end.
static size_t name_ending(const char *name)
{
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    const char *dot = strrchr(last, '.');
    return dot && dot > last ? (size_t)(dot - name) : strlen(name);
}

static bool has_ending(const char *name, const char *const *endings)
{
    for (const char *ending = name + name_ending(name); *endings; endings++)
        if (strcasecmp(ending, *endings) == 0)
            return true;
    return false;
}

static bool is_label(const char *name)
{
    return has_ending(name, (const char *const[]){".cls", ".json", NULL});
}

// Reads the rest of the current file, after `size` bytes in *data, to its end. -1 with an error
// without its path; *broken then says that the archive cannot be read on.
static int read_rest(struct image_archive *archive, uint8_t **data, size_t *size, size_t size_max,
                     bool *broken)
{
    ssize_t got;
    do {
        const size_t left = size_max + 1 - *size, more = left < PIECE ? left : PIECE;
        if (*size > size_max)
            return error_set(STATUS_DATA, "a file of more than %zu bytes, the limit", size_max);
        if (mem_grow(data, *size, more, 1) < 0) {
            *broken = true;
            return -1;
        }
        got = archive_walk_read(archive->walk, *data + *size, more, broken);
        if (got < 0)
            return -1;
        *size += (size_t)got;
    } while (got > 0);
    return 0;
}

// The number in a .cls, or the "label" in a .json. 1, 0 if there is none, -1 with an error.
static int parse_label_file(const char *name, const char *text, int64_t *label)
{
    if (strcasecmp(name + name_ending(name), ".cls") == 0) {
        char shown[ERROR_SHOWN_SIZE], *end;
        errno = 0;
        *label = strtoll(text, &end, 10);
        const bool number = end > text && !errno && *label >= -1;
        if (number && end[strspn(end, " \t\r\n")] == 0)
            return 1;
        return error_set(STATUS_DATA, "expected the number of a class, found \"%s\"",
                         error_shown(text, strlen(text), shown));
    }
    json_t *object = json_loads(text, JSON_DECODE_ANY, NULL);
    const json_t *value = json_is_object(object) ? json_object_get(object, "label") : object;
    const bool number = json_is_integer(value) && json_integer_value(value) >= -1;
    if (number)
        *label = json_integer_value(value);
    json_decref(object);
    return number;
}

// Reads the current file, a .cls or .json, and keeps its label. 0; -1 with an error.
static int keep_label(struct image_archive *archive)
{
    uint8_t *text = NULL;
    size_t size = 0;
    bool broken = false;
    const struct archive_file *file = &archive->file;
    if (file->sized && file->size > LABEL_SIZE_MAX)
        return 0;
    int64_t label = 0;
    int rc = read_rest(archive, &text, &size, LABEL_SIZE_MAX, &broken);
    if (rc == 0 && mem_grow(&text, size, 1, 1) == 0) {
        text[size] = 0;
        rc = parse_label_file(file->name, (const char *)text, &label);
        if (rc < 0)
            error_prefix("%s", file->path);
    } else
        rc = rc == 0 || broken ? -1 : 0;
    free(text);
    if (rc <= 0)
        return rc;
    free(archive->label_stem);
    archive->label_stem = strndup(file->path, name_ending(file->path));
    archive->label = label;
    return archive->label_stem ? 0 : error_set(STATUS_INTERNAL, "out of memory");
}

// Goes to the next file that has not been looked at. 1, 0 at the end, -1 with an error.
static int next_file(struct image_archive *archive)
{
    if (archive->ended)
        return 0;
    int rc = archive->pending ? 1 : archive_walk_next(archive->walk, &archive->file);
    archive->pending = false;
    archive->ended = rc == 0;
    return rc;
}

// Whether the current file is a picture. Bytes that were read of it for this, at most `size`, come
// first in its data. -1 with an error.
static int is_picture(struct image_archive *archive, uint8_t *head, size_t *size, bool *broken)
{
    static const char *const endings[] = {".jpg",  ".jpeg", ".jpe", ".jfif", ".png",  ".webp",
                                          ".gif",  ".bmp",  ".tif", ".tiff", ".avif", ".heic",
                                          ".heif", ".jxl",  ".jp2", ".ppm",  ".pgm",  ".pnm",
                                          ".psd",  ".exr",  ".qoi", NULL};
    const char *name = archive->file.name;
    const size_t wanted = *size;
    *size = 0;
    if (has_ending(name, endings))
        return 1;
    if (archive_name_stem(name)) {
        *broken = true;
        return error_set(STATUS_DATA, "%s: an archive within %d others, which is not opened",
                         archive->file.path, ARCHIVE_DEPTH);
    }
    if (name[name_ending(name)])
        return 0;
    const ssize_t got = archive_walk_read(archive->walk, head, wanted, broken);
    if (got < 0)
        return *broken ? -1 : 0;
    *size = (size_t)got;
    return image_is_known(head, *size);
}

// Finds what the picture, the current file, is called.
static int name_picture(struct image_archive *archive, struct archive_picture *picture)
{
    const struct archive_file *file = &archive->file;
    free(archive->path);
    free(archive->folder);
    const char *slash = strrchr(file->name, '/'), *folder = slash;
    while (folder && folder > file->name && folder[-1] != '/')
        folder--;
    size_t length = folder ? (size_t)(slash - folder) : 0;
    if (length == 0 || (length == 1 && *folder == '.')) {
        folder = file->stem;
        length = strlen(folder);
    }
    archive->path = mem_strdup(file->path);
    archive->folder = strndup(folder, length);
    if (!archive->path || !archive->folder)
        return error_set(STATUS_INTERNAL, "out of memory");
    *picture = (struct archive_picture){
        .path = archive->path, .folder = archive->folder, .folder_length = length};
    picture->numbered = dataset_labels_find(&archive->dataset, file->name, &picture->number);
    return 0;
}

// Reads the picture's data, of which the head may have been read. -1 if the archive is broken.
static int read_picture_data(struct image_archive *archive, struct archive_picture *picture,
                             const uint8_t *head, size_t head_size)
{
    const struct archive_file *file = &archive->file;
    bool broken = false;
    int rc = -1;
    if (file->sized && file->size > archive->size_max)
        error_set(STATUS_DATA,
                  "a file of %llu bytes, more than the limit of pixels allows (--max-pixels)",
                  (unsigned long long)file->size);
    else if (mem_grow(&picture->data, 0, head_size + 1, 1) == 0) {
        memcpy(picture->data, head, head_size);
        picture->size = head_size;
        rc = read_rest(archive, &picture->data, &picture->size, archive->size_max, &broken);
        uint8_t *exact = rc == 0 ? mem_resize(picture->data, picture->size + 1, 1) : NULL;
        if (exact)
            picture->data = exact;
    } else
        broken = true;
    picture->bad = rc < 0;
    if (picture->bad) {
        free(picture->data);
        picture->data = NULL;
    }
    return broken ? -1 : 0;
}

// Takes the label that stands beside the picture, which has just been read. -1 with an error.
static int find_number(struct image_archive *archive, struct archive_picture *picture)
{
    const size_t stem = name_ending(picture->path);
    int rc = 1;
    do {
        picture->numbered = archive->label_stem && strlen(archive->label_stem) == stem &&
                            memcmp(archive->label_stem, picture->path, stem) == 0;
        picture->number = archive->label;
        if (picture->numbered || (rc = next_file(archive)) <= 0)
            return rc < 0 ? -1 : 0;
        archive->pending = !is_label(archive->file.name) ||
                           name_ending(archive->file.path) != stem ||
                           memcmp(archive->file.path, picture->path, stem) != 0;
    } while (!archive->pending && (rc = keep_label(archive)) == 0);
    return rc < 0 ? -1 : 0;
}

// Takes the current file, a picture, of which the head has been read. 1, or -1 with an error.
static int take_picture(struct image_archive *archive, bool wanted, struct archive_picture *picture,
                        const uint8_t *head, size_t head_size)
{
    if (name_picture(archive, picture) < 0 ||
        (wanted && read_picture_data(archive, picture, head, head_size) < 0))
        return -1;
    struct error bad = {.status = STATUS_OK};
    if (picture->bad)
        error_save(&bad);
    if (!archive->dataset.known && find_number(archive, picture) < 0) {
        free(picture->data);
        return -1;
    }
    if (picture->bad)
        error_restore(&bad);
    return 1;
}

int image_archive_next(struct image_archive *archive, bool wanted, struct archive_picture *picture)
{
    if (archive->has_ahead) {
        *picture = archive->ahead;
        archive->has_ahead = false;
        if (picture->bad)
            error_restore(&archive->ahead_error);
        if (!wanted) {
            free(picture->data);
            picture->data = NULL;
        }
        return 1;
    }
    int rc;
    while ((rc = next_file(archive)) > 0) {
        if (is_label(archive->file.name)) {
            if (!archive->dataset.known && keep_label(archive) < 0)
                return -1;
            continue;
        }
        uint8_t head[IMAGE_HEAD_SIZE];
        size_t head_size = sizeof head;
        bool broken = false;
        rc = is_picture(archive, head, &head_size, &broken);
        if (rc < 0)
            return -1;
        if (rc > 0)
            return take_picture(archive, wanted, picture, head, head_size);
    }
    return rc;
}

int image_archive_is_numbered(struct image_archive *archive)
{
    int rc = image_archive_next(archive, true, &archive->ahead);
    if (rc <= 0)
        return rc;
    archive->has_ahead = true;
    if (archive->ahead.bad)
        error_save(&archive->ahead_error);
    return archive->ahead.numbered;
}

// Reads dataset.json, wherever it stands in the zip archive.
static int read_dataset(struct image_archive *archive, const char *path)
{
    struct archive_walk *walk = archive_walk_open(path, 1);
    if (!walk)
        return -1;
    uint8_t *text = NULL;
    size_t size = 0;
    bool broken = false;
    int rc;
    archive->walk = walk;
    do
        rc = archive_walk_next(walk, &archive->file);
    while (rc > 0 && strcmp(archive->file.name, "dataset.json") != 0);
    if (rc > 0) {
        rc = read_rest(archive, &text, &size, DATASET_SIZE_MAX, &broken);
        if (rc == 0)
            rc = dataset_labels_parse(&archive->dataset, (const char *)text, size);
        if (rc < 0 && !broken)
            error_prefix("%s", archive->file.path);
    }
    free(text);
    archive_walk_close(walk);
    archive->walk = NULL;
    return rc;
}

struct image_archive *image_archive_open(const char *path, const uint8_t *head, size_t head_size,
                                         size_t size_max)
{
    struct image_archive *archive = mem_new(1, sizeof *archive);
    if (!archive)
        return NULL;
    archive->size_max = size_max;
    const size_t stem = path ? archive_name_stem(path) : 0;
    const bool zip = stem && strcasecmp(path + stem, ".zip") == 0;
    if (!zip || read_dataset(archive, path) == 0)
        archive->walk = path ? archive_walk_open(path, ARCHIVE_DEPTH)
                             : archive_walk_open_input(head, head_size, ARCHIVE_DEPTH);
    if (archive->walk)
        return archive;
    image_archive_close(archive);
    return NULL;
}

void image_archive_close(struct image_archive *archive)
{
    if (!archive)
        return;
    if (archive->has_ahead)
        free(archive->ahead.data);
    archive_walk_close(archive->walk);
    dataset_labels_free(&archive->dataset);
    free(archive->label_stem);
    free(archive->path);
    free(archive->folder);
    free(archive);
}
