// Reads paths one at a time where labels are known at once, else all of them before the first.
// SPDX-License-Identifier: MIT
#include "formats/images/image-list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"

#define LINE_SIZE (16 << 10) // bytes; a path has up to 4096

enum labels { LABELS_NONE, LABELS_LINES, LABELS_FOLDERS };

struct image_list {
    struct image_list_options options;
    enum labels labels;
    bool tabs; // each line ends with a tab and a label
    struct class_names classes;

    char line[LINE_SIZE]; // the last line read from standard input
    uint64_t lines;
    const char *pending; // the first line, which was read ahead, or NULL

    // All paths, if they had to be read first: a uint32_t class and a string for each.
    bool all_read;
    char *paths;
    size_t paths_used, paths_at, count;
    uint32_t *rank; // (classes.n): the final number of each class in paths
};

// Reads the next line or argument. 1, 0 at the end, -1 with an error.
static int read_line(struct image_list *list, const char **line)
{
    if (list->options.paths[0]) {
        *line = list->options.paths[list->lines];
        list->lines += *line != NULL;
        return *line != NULL;
    }
    long length = line_read(stdin, list->options.nul ? 0 : '\n', list->line, LINE_SIZE);
    if (length < 0)
        return ferror(stdin)
                   ? error_set_errno(STATUS_NO_INPUT,
                                     "standard input: cannot read after line %" PRIu64, list->lines)
                   : 0;
    list->lines++;
    if (length == LINE_SIZE)
        return error_set(STATUS_DATA,
                         "standard input: line %" PRIu64 ": expected a path, found more than %d "
                         "bytes%s",
                         list->lines, LINE_SIZE - 1, list->options.nul ? "" : "; is -0 missing?");
    if (list->options.nul ? 0 : strlen(list->line) != (size_t)length)
        return error_set(STATUS_DATA,
                         "standard input: line %" PRIu64 " holds a NUL byte; is -0 missing?",
                         list->lines);
    *line = list->line;
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
static char *parse_label(const char *line, int64_t *label)
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

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool in_part(const struct image_list *list)
{
    return (list->lines - 1) % list->options.part.count == list->options.part.index;
}

static int keep_path(struct image_list *list, const char *path, uint32_t class)
{
    size_t size = strlen(path) + 1;
    if (mem_grow(&list->paths, list->paths_used, sizeof class + size, 1) < 0)
        return -1;
    memcpy(list->paths + list->paths_used, &class, sizeof class);
    memcpy(list->paths + list->paths_used + sizeof class, path, size);
    list->paths_used += sizeof class + size;
    list->count++;
    return 0;
}

// Reads all paths, then numbers the classes in the order of their names.
static int read_all_paths(struct image_list *list)
{
    const char *path = NULL;
    int rc;
    while ((rc = next_line(list, &path)) > 0) {
        if (!*path || is_folder(path))
            continue;
        size_t length;
        const char *name = parent_name(path, &length);
        int64_t class = class_names_add(&list->classes, name, length);
        if (class < 0 || (in_part(list) && keep_path(list, path, (uint32_t) class) < 0))
            return -1;
    }
    list->all_read = true;
    if (rc < 0 || list->classes.n == 0)
        return rc;
    list->rank = mem_new(list->classes.n, sizeof *list->rank);
    if (!list->rank)
        return -1;
    class_names_sort(&list->classes, list->rank);
    return 0;
}

// Reads what tells where labels come from: the file of classes and the first line.
static int read_first_line(struct image_list *list)
{
    const struct image_list_options *options = &list->options;
    if (!options->paths[0] && fd_refuse_terminal(STDIN_FILENO, "standard input") < 0)
        return -1;
    if (options->classes && class_names_read(&list->classes, options->classes) < 0)
        return -1;
    int64_t label;
    const char *line = NULL;
    int rc = read_line(list, &line);
    if (rc < 0)
        return -1;
    if (rc > 0)
        list->pending = line;
    list->tabs = rc > 0 && !options->paths[0] && parse_label(line, &label);
    list->labels = options->no_labels ? LABELS_NONE : list->tabs ? LABELS_LINES : LABELS_FOLDERS;
    return list->labels == LABELS_FOLDERS && !options->classes ? read_all_paths(list) : 0;
}

struct image_list *image_list_open(const struct image_list_options *options)
{
    struct image_list *list = mem_new(1, sizeof *list);
    if (!list)
        return NULL;
    list->options = *options;
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

static int next_kept(struct image_list *list, struct image_entry *entry)
{
    if (list->paths_at == list->paths_used)
        return 0;
    uint32_t class;
    memcpy(&class, list->paths + list->paths_at, sizeof class);
    const char *path = list->paths + list->paths_at + sizeof class;
    list->paths_at += sizeof class + strlen(path) + 1;
    *entry = (struct image_entry){.path = path, .label = list->rank[class]};
    return 1;
}

// Cuts the label off the current line. -1 with an error if the line has none.
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
    if (list->labels != LABELS_LINES)
        return 0;
    entry->label = label;
    if (list->classes.n && label >= (int64_t)list->classes.n) {
        entry->bad = true;
        error_set(STATUS_DATA, "label %" PRId64 ", but %s has %zu classes", label,
                  list->options.classes, list->classes.n);
    }
    return 0;
}

// Sets the label to the number of the file's folder in the file of classes. False if the path is a
// folder itself.
static bool find_label(const struct image_list *list, struct image_entry *entry)
{
    size_t length;
    const char *name = parent_name(entry->path, &length);
    entry->label = class_names_find(&list->classes, name, length);
    entry->bad = entry->label < 0;
    if (entry->bad && is_folder(entry->path))
        return false;
    if (entry->bad)
        error_set(STATUS_DATA, "its folder's name, \"%.*s\", is not in %s", (int)length, name,
                  list->options.classes);
    return true;
}

int image_list_next(struct image_list *list, struct image_entry *entry)
{
    if (list->all_read)
        return next_kept(list, entry);
    const char *line = NULL;
    int rc;
    while ((rc = next_line(list, &line)) > 0) {
        if (!*line || !in_part(list))
            continue;
        *entry = (struct image_entry){.path = line, .label = -1};
        if (list->tabs && take_label(list, entry) < 0)
            return -1;
        if (list->labels != LABELS_FOLDERS || find_label(list, entry))
            return 1;
    }
    return rc;
}
