// decode-images: image files -> a stream of images. SPDX-License-Identifier: MIT
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bin/decode-images/image-notes.h"
#include "formats/images/image-file.h"
#include "formats/images/image-list.h"
#include "formats/images/resample.h"
#include "formats/tstream/row-writer.h"
#include "formats/tstream/tstream.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/input-files.h"
#include "lib/tool/tool.h"

static int64_t side = 256, pixels_max = IMAGE_PIXELS_MAX;
static int order;                // an enum resample_order
static struct image_options how; // to decode
static struct budget waiting;    // for the pictures of archives that wait to be decoded

#define WAITING_MAX ((size_t)64 << 20) // bytes, or one picture that is larger

struct picture {
    struct input_file file;
    int64_t label;
    uint8_t *data; // of a picture in an archive, or NULL
    size_t size;
    bool notes[NOTES];
    uint8_t *pixels; // (side, side, 3)
};

struct decoding {
    struct image_list *list;
    struct row_writer rows;
    int image, label;   // indices of the output's tensors
    uint64_t *of_class; // (classes): images written of each; NULL if their number is unknown
    struct image_notes notes;
};

static int next_picture(void *user, void *file)
{
    struct decoding *decoding = user;
    struct picture *picture = file;
    struct image_entry entry;
    int more = image_list_next(decoding->list, &entry);
    if (more <= 0)
        return more;
    // Among paths "-" is a file of that name, not standard input.
    picture->file.path = mem_strdup(strcmp(entry.path, "-") == 0 ? "./-" : entry.path);
    picture->data = entry.data;
    picture->size = entry.size;
    if (picture->data)
        budget_acquire(&waiting, picture->size);
    if (!picture->file.path)
        return -1;
    picture->label = entry.label;
    if (entry.bad) {
        error_prefix("%s", picture->file.path);
        error_save(&picture->file.error);
    }
    return 1;
}

static void drop_data(struct picture *picture)
{
    if (picture->data)
        budget_release(&waiting, picture->size);
    free(picture->data);
    picture->data = NULL;
}

// Decodes a file, or data from an archive, which are then dropped.
static int decode_picture(struct picture *picture, struct image *image)
{
    const char *path = picture->file.path;
    if (!picture->data)
        return image_read(image, path, &how);
    const int rc = image_decode(image, picture->data, picture->size, &how);
    drop_data(picture);
    return rc < 0 ? error_prefix("%s", path) : 0;
}

static int read_picture(void *file)
{
    struct picture *picture = file;
    struct stat st;
    picture->file.ignored = !picture->data && stat(picture->file.path, &st) == 0 &&
                            S_ISDIR(st.st_mode); // as find(1) lists them
    if (picture->file.ignored)
        return 0;
    struct image image;
    if (decode_picture(picture, &image) < 0)
        return -1;
    const size_t shorter = image.width < image.height ? image.width : image.height;
    picture->notes[NOTE_DAMAGED] = image.damaged;
    picture->notes[NOTE_ROTATED] = image.orientation != 1 && !how.exif;
    picture->notes[NOTE_TRANSPARENT] = image.transparent && !how.background;
    picture->notes[NOTE_ENLARGED] = shorter < (size_t)side;
    picture->pixels = mem_resize(NULL, (size_t)(side * side), 3);
    int rc = picture->pixels ? resample_crop(image.rgb, image.width, image.height, side,
                                             (enum resample_order)order, picture->pixels)
                             : -1;
    image_free(&image);
    return rc;
}

// Parses RRGGBB, after a # or not, or the name of a colour.
static void parse_background(const char *text)
{
    static uint8_t rgb[3];
    static const struct {
        const char *name;
        uint32_t rgb;
    } colours[] = {{"black", 0}, {"gray", 0x808080}, {"white", 0xFFFFFF}};
    const char *digits = text + (*text == '#');
    uint32_t value = (uint32_t)strtoul(digits, NULL, 16);
    bool known = strlen(digits) == 6 && strspn(digits, "0123456789abcdefABCDEF") == 6;
    for (size_t i = 0; i < sizeof colours / sizeof *colours && !known; i++) {
        known = strcmp(text, colours[i].name) == 0;
        value = colours[i].rgb;
    }
    if (!known)
        tool_usage_error("--background: expected RRGGBB in hexadecimal, white, gray or black, "
                         "found '%s'",
                         text);
    for (size_t c = 0; c < 3; c++)
        rgb[c] = (uint8_t)(value >> (16 - 8 * c));
    how.background = rgb;
}

static int write_picture(void *user, void *file)
{
    struct decoding *decoding = user;
    const struct picture *picture = file;
    progress_add(1);
    if (image_notes_add(&decoding->notes, picture->file.path, picture->notes) < 0)
        return -1;
    if (decoding->of_class)
        decoding->of_class[picture->label]++;
    struct row_writer *rows = &decoding->rows;
    uint8_t *image = row_writer_at(rows, decoding->image);
    uint8_t *label = row_writer_at(rows, decoding->label);
    if (!image || !label)
        return -1;
    memcpy(image, picture->pixels, rows->schema->fields[decoding->image].size);
    memcpy(label, &picture->label, sizeof picture->label);
    return row_writer_next(rows);
}

static void release_picture(void *file)
{
    drop_data(file);
    free(((struct picture *)file)->pixels);
}

// `classes` is NULL if their names are not known.
static struct schema *images_schema_new(const struct class_names *classes)
{
    struct schema *schema = schema_new("images");
    const size_t shape[3] = {side, side, 3};
    char *names = classes ? class_names_json(classes) : NULL;
    if (!schema || (classes && !names) || schema_add(schema, "image", DTYPE_U8, shape, 3) < 0 ||
        schema_add(schema, "label", DTYPE_I64, NULL, 0) < 0 ||
        schema_set(schema, "image_size", "%zu", shape[0]) < 0 ||
        (names && schema_set(schema, "classes", "%s", names) < 0) ||
        schema_add_provenance(schema, tool_provenance()) < 0)
        tool_fail();
    free(names);
    return schema;
}

int main(int argc, char **argv)
{
    struct image_list_options from = {.part = {0, 1}};
    const char *background = NULL;
    bool labels = true;
    const struct option options[] = {
        OPTION_INT("size", 's', &side, 8, 8192, "side of the images in pixels (default 256)"),
        OPTION_FLAG("null", '0', &from.nul,
                    "paths on standard input end with NUL, as from find -print0"),
        OPTION_STRING("classes", 'c', &from.classes, "FILE",
                      "names of the classes, one a line, in the order of their numbers"),
        OPTION_FLAG("labels", 0, &labels, "label the images (--no-labels: all labels are -1)"),
        OPTION_PART("part", 0, &from.part, "decode only lines I, I+N, I+2N, ... of the list"),
        OPTION_FLAG("exif", 0, &how.exif, "rotate images by their EXIF orientation"),
        OPTION_STRING("background", 0, &background, "COLOUR",
                      "colour under transparent pixels: RRGGBB, white, gray or black"),
        OPTION_CHOICE("resample-order", 0, &order,
                      "order of the passes of a resize (default: horizontal, as Pillow before 13)",
                      "horizontal", "pillow13"),
        OPTION_INT("max-pixels", 0, &pixels_max, 1, (int64_t)1 << 40,
                   "skip images of more pixels (default 67108864)"),
        OPTION_FLAG("strict", 0, &how.strict,
                    "stop at the first file that cannot be decoded or is damaged"),
        TOOL_OPTION_THREADS,
        TOOL_OPTION_LEVEL,
        TOOL_OPTION_OUTPUT,
        TOOL_OPTION_PG,
        TOOL_OPTIONS_COMMON,
        OPTION_END,
    };
    from.paths = tool_start(
        argc, argv,
        &(struct tool_info){
            "decode-images", "[OPTION]... [PATH]...",
            "Decode image files, listed on standard input or in archives, into a stream of images.",
            options});
    if (background)
        parse_background(background);
    from.no_labels = !labels;
    how.crop = (size_t)side;
    how.pixels_max = (size_t)pixels_max;
    from.size_max = image_memory_left(&(struct image_source){.options = &how}, 0);
    struct budget budget;
    budget_init(&budget, image_budget(how.pixels_max, (size_t)tool.threads));
    budget_init(&waiting, WAITING_MAX);
    how.budget = &budget;

    struct output *output = output_open(tool.output);
    struct image_list *list = output ? image_list_open(&from) : NULL;
    if (!list)
        tool_fail();
    const struct class_names none = {0}, *classes = labels ? image_list_classes(list) : &none;
    const bool numbered = labels && classes && !from.classes; // by the names that the list holds
    if (numbered)
        print_classes(list);
    struct schema *schema = images_schema_new(classes);
    struct tstream_writer *out =
        tstream_create(output, schema, (size_t)tool.threads, tool_level(output));
    if (!out)
        tool_fail();
    struct decoding decoding = {.list = list,
                                .rows = {.out = out, .schema = schema},
                                .image = schema_find(schema, "image"),
                                .label = schema_find(schema, "label")};
    const bool partial = from.part.count > 1;
    if (numbered && !partial &&
        !(decoding.of_class = mem_new(classes->n, sizeof *decoding.of_class)))
        tool_fail();
    progress_start("images", image_list_count(list));
    uint64_t used = input_files_run(&(struct input_files){.size = sizeof(struct picture),
                                                          .ahead = 4,
                                                          .strict = how.strict,
                                                          .partial = partial,
                                                          .user = &decoding,
                                                          .next = next_picture,
                                                          .read = read_picture,
                                                          .use = write_picture,
                                                          .release = release_picture});
    const bool archives = image_list_archives(list) > 0;
    if (used == 0 && !partial && (archives || image_list_lines(list) > 0)) {
        error_set(STATUS_NO_INPUT, archives ? "the archives hold no pictures"
                                            : "the list names only folders, no files");
        tool_fail();
    }
    tool_check(row_writer_flush(&decoding.rows));
    progress_finish();
    image_notes_print(&decoding.notes);
    if (decoding.of_class)
        warn_of_empty_classes(list, decoding.of_class);
    tool_check(tstream_finish(out));
    schema_free(schema);
    free(decoding.of_class);
    image_list_close(list);
    return tool_finish();
}
