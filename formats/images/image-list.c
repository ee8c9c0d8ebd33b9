// Reads paths one at a time where labels are known at once, else all of them before the first.
// SPDX-License-Identifier: MIT
#include "formats/images/image-list.h"

#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/containers/archive.h"
#include "formats/images/image-archive.h"
#include "formats/images/picture-spool.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/text.h"

#define LINE_SIZE   (16 << 10)        // bytes; a path has up to 4096
#define NAMES_SIZE  ((size_t)1 << 20) // bytes of all classes' names, which a stream's header holds
#define IN_ARCHIVES UINT32_MAX        // stands for the class of a path that is an archive

enum labels { LABELS_NONE, LABELS_NUMBERS, LABELS_CLASSES };
enum tabs { TABS_NONE, TABS_NUMBERS, TABS_CLASSES };

// Standard input, before which stand the bytes that were read to see what it is.
struct peeked_input {
    uint8_t head[ARCHIVE_HEAD];
    size_t size, at;
};

struct image_list {
    struct image_list_options options;
    enum labels labels;
    enum tabs tabs; // what stands after the tab of each line
    struct class_names classes;

    FILE *input; // standard input, or NULL
    struct peeked_input peeked;
    char line[LINE_SIZE]; // the last line read from it
    size_t operands;      // taken from options.paths
    FTS *walk;            // through the last one, if it is a folder
    uint64_t lines;
    const char *pending; // the first line, which was read ahead, or NULL

    struct image_archive *archive; // of which pictures are listed now, or NULL
    uint64_t archives;             // opened so far, to list their pictures
    uint64_t items;                // lines so far, in which each picture of an archive is one
    struct picture_spool spool;    // the pictures of standard input, if they had to be read first

    // All paths, if they had to be read first: a uint32_t class and a string for each.
    bool all_read;
    char *paths;
    size_t paths_used, paths_at, count, names_size;
    uint32_t *rank; // (classes.n): the final number of each class in paths
    size_t *sizes;  // (classes.n): files of each class
};

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int compare_walk_names(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

// The next file of the walk. 1, 0 at the end, -1 with an error.
static int walk_next(FTS *walk, const char **path)
{
    FTSENT *entry;
    while ((errno = 0, entry = fts_read(walk))) {
        bool hidden = entry->fts_level > 0 && entry->fts_name[0] == '.';
        if (entry->fts_info == FTS_D && hidden)
            fts_set(walk, entry, FTS_SKIP);
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR) {
            errno = entry->fts_errno;
            return error_set_errno(STATUS_NO_INPUT, "%s: cannot read", entry->fts_path);
        }
        bool folder = entry->fts_info == FTS_D || entry->fts_info == FTS_DP ||
                      entry->fts_info == FTS_DC; // the last one is a link to a folder around it
        if (folder || hidden)
            continue;
        *path = entry->fts_path;
        return 1;
    }
    return errno ? error_set_errno(STATUS_NO_INPUT, "cannot read a folder") : 0;
}

// The next operand, or file in an operand that is a folder.
static int read_operand(struct image_list *list, const char **path)
{
    for (;;) {
        if (list->walk) {
            int rc = walk_next(list->walk, path);
            if (rc)
                return rc;
            fts_close(list->walk);
            list->walk = NULL;
        }
        char *operand = list->options.paths[list->operands];
        if (!operand)
            return 0;
        list->operands++;
        *path = operand;
        if (!is_folder(operand))
            return 1;
        list->walk =
            fts_open((char *[]){operand, NULL}, FTS_LOGICAL | FTS_NOCHDIR, compare_walk_names);
        if (!list->walk)
            return error_set_errno(STATUS_NO_INPUT, "%s: cannot read", operand);
    }
}

// Reads the next line or argument. 1, 0 at the end, -1 with an error.
static int read_line(struct image_list *list, const char **line)
{
    if (list->options.paths[0]) {
        int rc = read_operand(list, line);
        list->lines += rc > 0;
        return rc;
    }
    long got = line_read(list->input, list->options.nul ? 0 : '\n', list->line, LINE_SIZE);
    if (got < 0)
        return ferror(list->input)
                   ? error_set_errno(STATUS_NO_INPUT,
                                     "standard input: cannot read after line %" PRIu64, list->lines)
                   : 0;
    list->lines++;
    if (got == LINE_SIZE)
        return error_set(STATUS_DATA,
                         "standard input: line %" PRIu64 ": expected a path, found more than %d "
                         "bytes%s",
                         list->lines, LINE_SIZE - 1, list->options.nul ? "" : "; is -0 missing?");
    *line = list->line;
    if (list->options.nul)
        return 1;
    size_t length = (size_t)got;
    if (strlen(list->line) != length)
        return error_set(STATUS_DATA,
                         "standard input: line %" PRIu64 " holds a NUL byte; is -0 missing?",
                         list->lines);
    length = text_line_length(list->line, length);
    list->line[length] = 0;
    if (list->lines == 1)
        memmove(list->line, list->line + text_bom(list->line, length),
                length + 1 - text_bom(list->line, length));
    return 1;
}

static int next_line(struct image_list *list, const char **line)
{
    if (!list->pending)
        return read_line(list, line);
    *line = list->pending;
    list->pending = NULL;
    return 1;
}

// The tab of a line "PATH<TAB>NUMBER", and the number; NULL for other lines.
static char *parse_label(char *line, int64_t *label)
{
    char *tab = strrchr(line, '\t'), *end;
    if (!tab || tab == line || (tab[1] != '-' && (tab[1] < '0' || tab[1] > '9')))
        return NULL;
    errno = 0;
    long long value = strtoll(tab + 1, &end, 10);
    *label = value;
    return *end || end == tab + 1 || errno || value < -1 ? NULL : tab;
}

// The name of the folder that holds the file; "." if the path has no folder.
static const char *parent_name(const char *path, size_t *length)
{
    const char *slash = strrchr(path, '/');
    if (!slash) {
        *length = 1;
        return ".";
    }
    while (slash > path && slash[-1] == '/')
        slash--;
    const char *name = slash;
    while (name > path && name[-1] != '/')
        name--;
    *length = slash > path ? (size_t)(slash - name) : 1;
    return name;
}

// Cuts the class's name off a line that has it after a tab; else it is that of the folder. NULL
// with an error.
static const char *take_class(struct image_list *list, const char *line, size_t *length)
{
    if (list->tabs != TABS_CLASSES)
        return parent_name(line, length);
    char *tab = strrchr(list->line, '\t');
    if (!tab || tab == line || !tab[1]) {
        error_set(STATUS_DATA,
                  "standard input: line %" PRIu64
                  ": expected PATH<TAB>CLASS as in the first line, found \"%s\"",
                  list->lines, line);
        return NULL;
    }
    *tab = 0;
    *length = strlen(tab + 1);
    return tab + 1;
}

// Whether the next item is in the part.
static bool in_part(const struct image_list *list)
{
    return list->items % list->options.part.count == list->options.part.index;
}

static int keep_path(struct image_list *list, const char *path, uint32_t class)
{
    size_t size = strlen(path) + 1;
    if (mem_grow(&list->paths, list->paths_used, sizeof class + size, 1) < 0)
        return -1;
    memcpy(list->paths + list->paths_used, &class, sizeof class);
    memcpy(list->paths + list->paths_used + sizeof class, path, size);
    list->paths_used += sizeof class + size;
    return 0;
}

static int count_class(struct image_list *list, const char *name, size_t length)
{
    const size_t n = list->classes.n;
    int64_t class = class_names_add(&list->classes, name, length);
    if (class < 0)
        return -1;
    if ((size_t) class == n) {
        list->names_size += length;
        if (list->names_size > NAMES_SIZE)
            return error_set(STATUS_DATA,
                             "the names of %zu folders take more than 1 MiB, and cannot all be "
                             "classes; --no-labels takes the images without labels",
                             n + 1);
        if (mem_grow(&list->sizes, n, 1, sizeof *list->sizes) < 0)
            return -1;
        list->sizes[n] = 0;
    }
    list->sizes[class]++;
    return (int)class;
}

// Numbers the classes in the order of their names.
static int rank_classes(struct image_list *list)
{
    const size_t n = list->classes.n;
    list->rank = mem_new(n, sizeof *list->rank);
    size_t *sizes = mem_new(n, sizeof *sizes);
    if (!list->rank || !sizes) {
        free(sizes);
        return -1;
    }
    class_names_sort(&list->classes, list->rank);
    for (size_t i = 0; i < n; i++)
        sizes[list->rank[i]] = list->sizes[i];
    free(list->sizes);
    list->sizes = sizes;
    return 0;
}

static bool is_archive(const struct image_list *list, const char *path)
{
    return list->tabs == TABS_NONE && archive_name_stem(path) && !is_folder(path);
}

static int number_error(const struct archive_picture *picture)
{
    return error_set(STATUS_DATA,
                     "%s: expected no number as its label, as with the first picture, found "
                     "%" PRId64,
                     picture->path, picture->number);
}

// The class of an archive's picture, by its name. -1 with an error.
static int count_picture(struct image_list *list, const struct archive_picture *picture)
{
    if (picture->numbered)
        return number_error(picture);
    return count_class(list, picture->folder, picture->folder_length);
}

static int count_archive(struct image_list *list, const char *path)
{
    struct image_archive *archive = image_archive_open(path, NULL, 0, list->options.size_max);
    struct archive_picture picture;
    int rc = -1;
    while (archive && (rc = image_archive_next(archive, false, &picture)) > 0) {
        list->count += in_part(list);
        list->items++;
        if (count_picture(list, &picture) < 0) {
            rc = -1;
            break;
        }
    }
    image_archive_close(archive);
    return rc;
}

static int read_all_paths(struct image_list *list)
{
    const char *path = NULL;
    int rc;
    while ((rc = next_line(list, &path)) > 0) {
        if (is_archive(list, path)) {
            if (count_archive(list, path) < 0 || keep_path(list, path, IN_ARCHIVES) < 0)
                return -1;
            continue;
        }
        const bool wanted = in_part(list);
        list->items++;
        if (!*path)
            continue;
        size_t length;
        const char *name = take_class(list, path, &length);
        if (!name)
            return -1;
        if (is_folder(path))
            continue;
        int class = count_class(list, name, length);
        if (class < 0 || (wanted && keep_path(list, path, (uint32_t) class) < 0))
            return -1;
        list->count += wanted;
    }
    list->all_read = true;
    list->items = 0;
    return rc == 0 && list->classes.n ? rank_classes(list) : rc;
}

// Keeps the pictures of standard input in a temporary file, as their classes are numbered last.
static int spool_archive(struct image_list *list)
{
    if (picture_spool_open(&list->spool) < 0)
        return -1;
    struct archive_picture picture;
    int rc;
    while ((rc = image_archive_next(list->archive, in_part(list), &picture)) > 0) {
        struct error bad = {.status = STATUS_OK};
        if (picture.bad)
            error_save(&bad);
        int class = count_picture(list, &picture), added = class < 0 ? -1 : 0;
        if (added == 0 && in_part(list)) {
            if (picture.bad)
                error_restore(&bad);
            list->count++;
            added =
                picture_spool_add(&list->spool, &(struct spooled_picture){.path = picture.path,
                                                                          .class = (uint32_t) class,
                                                                          .data = picture.data,
                                                                          .size = picture.size,
                                                                          .bad = picture.bad});
        }
        free(picture.data);
        list->items++;
        if (added < 0)
            return -1;
    }
    image_archive_close(list->archive);
    list->archive = NULL;
    return rc == 0 && list->classes.n ? rank_classes(list) : rc;
}

static enum tabs find_tabs(char *line)
{
    int64_t label;
    if (parse_label(line, &label))
        return TABS_NUMBERS;
    const char *tab = strrchr(line, '\t');
    // A path may hold a tab, too.
    return tab && tab > line && tab[1] && access(line, F_OK) < 0 ? TABS_CLASSES : TABS_NONE;
}

static ssize_t read_peeked(void *cookie, char *to, size_t size)
{
    struct peeked_input *peeked = cookie;
    const size_t left = peeked->size - peeked->at;
    if (left == 0)
        return read(STDIN_FILENO, to, size);
    size = size < left ? size : left;
    memcpy(to, peeked->head + peeked->at, size);
    peeked->at += size;
    return (ssize_t)size;
}

// Opens standard input, as an archive if it is one.
static int start_input(struct image_list *list)
{
    struct peeked_input *peeked = &list->peeked;
    if (fd_refuse_terminal(STDIN_FILENO, "standard input") < 0)
        return -1;
    if (fd_read_full(STDIN_FILENO, peeked->head, sizeof peeked->head, &peeked->size) < 0)
        return error_set_errno(STATUS_NO_INPUT, "standard input: cannot read");
    list->input = fopencookie(peeked, "r", (cookie_io_functions_t){.read = read_peeked});
    if (!list->input)
        return error_set(STATUS_INTERNAL, "out of memory");
    if (!archive_is_known(peeked->head, peeked->size))
        return 0;
    peeked->at = peeked->size;
    list->archives++;
    list->archive = image_archive_open(NULL, peeked->head, peeked->size, list->options.size_max);
    return list->archive ? 0 : -1;
}

// Whether the first picture of an archive has a number. -1 with an error.
static int is_numbered(struct image_list *list, const char *path)
{
    struct image_archive *archive = image_archive_open(path, NULL, 0, list->options.size_max);
    const int rc = archive ? image_archive_is_numbered(archive) : -1;
    image_archive_close(archive);
    return rc;
}

// Reads what tells where labels come from: the file of classes, and the first line or picture.
static int read_first_line(struct image_list *list)
{
    const struct image_list_options *options = &list->options;
    const char *line = NULL;
    int rc = 0, numbered = 0;
    if (!options->paths[0] && start_input(list) < 0)
        return -1;
    if (options->classes && class_names_read(&list->classes, options->classes) < 0)
        return -1;
    if (!list->archive && (rc = read_line(list, &line)) < 0)
        return -1;
    if (rc > 0)
        list->pending = line;
    list->tabs = rc > 0 && !options->paths[0] ? find_tabs(list->line) : TABS_NONE;
    if (list->tabs == TABS_NUMBERS)
        numbered = 1;
    else if (list->archive)
        numbered = image_archive_is_numbered(list->archive);
    else if (rc > 0 && !options->no_labels && is_archive(list, line))
        numbered = is_numbered(list, line);
    if (numbered < 0)
        return -1;
    list->labels = options->no_labels ? LABELS_NONE : numbered ? LABELS_NUMBERS : LABELS_CLASSES;
    if (list->labels != LABELS_CLASSES || options->classes)
        return 0;
    return list->archive ? spool_archive(list) : read_all_paths(list);
}

struct image_list *image_list_open(const struct image_list_options *options)
{
    struct image_list *list = mem_new(1, sizeof *list);
    if (!list)
        return NULL;
    list->options = *options;
    list->spool.fd = -1;
    char **paths = options->paths;
    if (paths[0] && strcmp(paths[0], "-") == 0 && !paths[1])
        list->options.paths++;
    if (list->options.size_max == 0)
        list->options.size_max = SIZE_MAX / 2;
    if (read_first_line(list) < 0) {
        image_list_close(list);
        return NULL;
    }
    return list;
}

void image_list_close(struct image_list *list)
{
    class_names_free(&list->classes);
    free(list->paths);
    free(list->rank);
    free(list->sizes);
    if (list->walk)
        fts_close(list->walk);
    if (list->input)
        fclose(list->input);
    image_archive_close(list->archive);
    picture_spool_close(&list->spool);
    free(list);
}

const struct class_names *image_list_classes(const struct image_list *list)
{
    return list->labels != LABELS_NONE && list->classes.n ? &list->classes : NULL;
}

size_t image_list_count(const struct image_list *list)
{
    return list->count;
}

uint64_t image_list_lines(const struct image_list *list)
{
    return list->options.paths[0] ? list->operands : list->lines;
}

uint64_t image_list_archives(const struct image_list *list)
{
    return list->archives;
}

size_t image_list_class_size(const struct image_list *list, size_t class)
{
    return list->sizes ? list->sizes[class] : 0;
}

static int open_archive(struct image_list *list, const char *path)
{
    list->archives++;
    list->archive = image_archive_open(path, NULL, 0, list->options.size_max);
    return list->archive ? 1 : -1;
}

// These get the next picture, or open the next archive. 1, 0 at the end, -1 with an error.
static int next_kept(struct image_list *list, struct image_entry *entry)
{
    if (list->paths_at == list->paths_used)
        return 0;
    uint32_t class;
    memcpy(&class, list->paths + list->paths_at, sizeof class);
    const char *path = list->paths + list->paths_at + sizeof class;
    list->paths_at += sizeof class + strlen(path) + 1;
    if (class == IN_ARCHIVES)
        return open_archive(list, path);
    *entry = (struct image_entry){.path = path, .label = list->rank[class]};
    return 1;
}

// Sets the label, which must be the number of a class if these are known.
static void set_number(const struct image_list *list, struct image_entry *entry, int64_t label)
{
    entry->label = label;
    entry->bad = list->classes.n && label >= (int64_t)list->classes.n;
    if (entry->bad)
        error_set(STATUS_DATA, "label %" PRId64 ", but %s has %zu classes", label,
                  list->options.classes, list->classes.n);
}

// Cuts the label off the current line. 1, or -1 with an error if the line has none.
static int take_label(struct image_list *list, struct image_entry *entry)
{
    int64_t label;
    char *tab = parse_label(list->line, &label);
    if (!tab)
        return error_set(STATUS_DATA,
                         "standard input: line %" PRIu64
                         ": expected PATH<TAB>LABEL as in the first line, found \"%s\"",
                         list->lines, list->line);
    *tab = 0;
    if (list->labels != LABELS_NUMBERS)
        return 1;
    set_number(list, entry, label);
    return 1;
}

static void set_class(const struct image_list *list, struct image_entry *entry, const char *name,
                      size_t length)
{
    entry->label = class_names_find(&list->classes, name, length);
    entry->bad = entry->label < 0;
    if (entry->bad)
        error_set(STATUS_DATA, "%s, \"%.*s\", is not in %s",
                  list->tabs == TABS_CLASSES ? "its class" : "its folder's name", (int)length, name,
                  list->options.classes ? list->options.classes : "the archive any more");
}

// Sets the label to the number of the file's class in the file of classes. 1; 0 if the path is a
// folder itself; -1 with an error.
static int find_label(struct image_list *list, struct image_entry *entry)
{
    size_t length;
    const char *name = take_class(list, entry->path, &length);
    if (!name)
        return -1;
    set_class(list, entry, name, length);
    return !entry->bad || !is_folder(entry->path);
}

static int missing_number(struct image_entry *entry)
{
    entry->bad = true;
    error_set(STATUS_DATA, "expected the number of its class, as with the first picture, in a "
                           ".cls or .json beside it or in dataset.json, found none");
    return 1;
}

// Sets the label of an archive's picture. -1 with an error.
static int label_picture(const struct image_list *list, const struct archive_picture *picture,
                         struct image_entry *entry)
{
    if (list->labels == LABELS_CLASSES) {
        if (picture->numbered)
            return number_error(picture);
        set_class(list, entry, picture->folder, picture->folder_length);
    } else if (list->labels == LABELS_NUMBERS && picture->numbered) {
        set_number(list, entry, picture->number);
    } else if (list->labels == LABELS_NUMBERS) {
        missing_number(entry);
    }
    return 0;
}

// The next picture of the open archive, which is closed at its end.
static int next_in_archive(struct image_list *list, struct image_entry *entry)
{
    struct archive_picture picture;
    int rc;
    bool wanted;
    do {
        wanted = in_part(list);
        rc = image_archive_next(list->archive, wanted, &picture);
        list->items += rc > 0;
    } while (rc > 0 && !wanted);
    if (rc <= 0) {
        image_archive_close(list->archive);
        list->archive = NULL;
        return rc;
    }
    *entry = (struct image_entry){.path = picture.path, .label = -1, .bad = picture.bad};
    if (!picture.bad && label_picture(list, &picture, entry) < 0)
        rc = -1;
    if (rc < 0 || entry->bad) {
        free(picture.data);
        return rc;
    }
    entry->data = picture.data;
    entry->size = picture.size;
    return 1;
}

static int next_spooled(struct image_list *list, struct image_entry *entry)
{
    struct spooled_picture picture;
    const int rc = picture_spool_next(&list->spool, &picture);
    if (rc > 0)
        *entry = (struct image_entry){.path = picture.path,
                                      .label = list->rank[picture.class],
                                      .bad = picture.bad,
                                      .data = picture.data,
                                      .size = picture.size};
    return rc;
}

static int next_listed(struct image_list *list, struct image_entry *entry)
{
    const char *line = NULL;
    int rc;
    while ((rc = next_line(list, &line)) > 0) {
        if (is_archive(list, line))
            return open_archive(list, line);
        const bool wanted = in_part(list);
        list->items++;
        if (!*line || !wanted)
            continue;
        *entry = (struct image_entry){.path = line, .label = -1};
        size_t length;
        if (list->tabs == TABS_NUMBERS)
            rc = take_label(list, entry);
        else if (list->labels == LABELS_CLASSES)
            rc = find_label(list, entry);
        else if (!take_class(list, line, &length))
            rc = -1;
        else if (list->labels == LABELS_NUMBERS && !is_folder(line))
            rc = missing_number(entry);
        if (rc)
            return rc;
    }
    return rc;
}

int image_list_next(struct image_list *list, struct image_entry *entry)
{
    int rc;
    do {
        if (list->archive && (rc = next_in_archive(list, entry)))
            return rc;
        rc = list->spool.fd >= 0 ? next_spooled(list, entry)
             : list->all_read    ? next_kept(list, entry)
                                 : next_listed(list, entry);
    } while (rc > 0 && list->archive);
    return rc;
}
