// The files of a run's folder: named by step, replaced as a whole, pruned.
// SPDX-License-Identifier: MIT
#include "bin/dit-train/run-folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/base/tempfile.h"

#define SUFFIX    ".safetensors"
#define LATEST    "latest" SUFFIX
#define NEW_LINK  ".latest.new"
#define LOG       "log.jsonl"
#define CONFIG    "config.json"
#define SAMPLES   "samples"
#define SNAPSHOTS "snapshots"

#define LOG_LINE_MAX (64 << 10) // bytes
#define SHEET_SUFFIX ".png"

// The step in the name of a checkpoint or of a sheet of images; false for other names.
static bool parse_step_name(const char *name, const char *suffix, uint64_t *step)
{
    char *end;
    if (*name < '0' || *name > '9')
        return false;
    *step = strtoull(name, &end, 10);
    return strcmp(end, suffix) == 0;
}

static bool is_run_file(const char *name)
{
    uint64_t step;
    return parse_step_name(name, SUFFIX, &step) || strcmp(name, LOG) == 0 ||
           strcmp(name, CONFIG) == 0;
}

static bool is_sheet(const char *name)
{
    uint64_t step;
    return parse_step_name(name, SHEET_SUFFIX, &step);
}

static bool is_snapshot(const char *name)
{
    const size_t length = strlen(name), n = strlen(SUFFIX);
    return *name >= '0' && *name <= '9' && length > n && strcmp(name + length - n, SUFFIX) == 0;
}

// Opens a folder for reading its entries. Only a folder itself is opened, not what a link to it
// names. NULL with errno.
static DIR *open_entries(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    return dir;
}

// Removes what killed processes left half-written of the files that is_own knows.
static int remove_strays(const struct run_folder *run, const char *name,
                         bool (*is_own)(const char *name))
{
    DIR *dir = open_entries(run->lock, name);
    if (!dir)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? 0
                   : error_set_errno(STATUS_IO, "%s/%s", run->path, name);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char base[NAME_MAX + 1];
        if (tempfile_is_stray(entry->d_name, base) && is_own(base))
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    return 0;
}

static int remove_all_strays(const struct run_folder *run)
{
    unlinkat(run->lock, NEW_LINK, 0);
    return remove_strays(run, ".", is_run_file) < 0 || remove_strays(run, SAMPLES, is_sheet) < 0 ||
                   remove_strays(run, SNAPSHOTS, is_snapshot) < 0
               ? -1
               : 0;
}

int run_folder_open(struct run_folder *run, const char *path)
{
    *run = (struct run_folder){.path = path, .lock = -1, .log = -1};
    if (folder_make(path) < 0)
        return -1;
    run->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0)
        return error_set_errno(STATUS_CANT_CREATE, "%s", path);
    if (flock(run->lock, LOCK_EX | LOCK_NB) < 0)
        error_set(STATUS_USAGE, "%s: another dit-train is at work in this folder", path);
    else if (remove_all_strays(run) == 0)
        return 0;
    run_folder_close(run);
    return -1;
}

void run_folder_close(struct run_folder *run)
{
    if (run->log >= 0)
        close(run->log);
    if (run->lock >= 0)
        close(run->lock);
    free(run->unwritten);
    *run = (struct run_folder){.lock = -1, .log = -1};
}

uint64_t run_folder_id(const struct run_folder *run)
{
    struct stat st;
    return fstat(run->lock, &st) == 0 ? st.st_ino : 0;
}

#define STEP_NAME_SIZE 80
static void name_step(char name[STEP_NAME_SIZE], uint64_t step, const char *suffix)
{
    snprintf(name, STEP_NAME_SIZE, "%07llu%s", (unsigned long long)step, suffix);
}

// The path NAME in the folder, where that is now: it may have been renamed. NULL with an error.
static char *current_path(const struct run_folder *run, const char *name)
{
    char link[40], path[PATH_MAX];
    struct stat named, open;
    if (stat(run->path, &named) == 0 && fstat(run->lock, &open) == 0 &&
        named.st_dev == open.st_dev && named.st_ino == open.st_ino)
        return path_join(run->path, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", run->lock);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path_join(n > 0 ? path : run->path, name);
}

char *run_folder_checkpoint(const struct run_folder *run, uint64_t step)
{
    char name[STEP_NAME_SIZE];
    name_step(name, step, SUFFIX);
    return current_path(run, name);
}

static int compare_steps(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// The steps of all checkpoints but that of step `except`, in falling order, malloc'd. NULL with an
// error.
static uint64_t *list_steps(const struct run_folder *run, uint64_t except, size_t *count)
{
    DIR *dir = open_entries(run->lock, ".");
    size_t n = 0;
    uint64_t *steps = mem_new(1, sizeof *steps); // not NULL where there are none
    if (!dir)
        error_set_errno(STATUS_IO, "%s", run->path);
    for (struct dirent *entry; dir && steps && (entry = readdir(dir));) {
        uint64_t step;
        if (!parse_step_name(entry->d_name, SUFFIX, &step) || step == except)
            continue;
        if (mem_grow(&steps, n, 1, sizeof *steps) == 0) {
            steps[n++] = step;
            continue;
        }
        free(steps);
        steps = NULL;
    }
    if (dir)
        closedir(dir);
    if (!dir || !steps) {
        free(steps);
        return NULL;
    }
    qsort(steps, n, sizeof *steps, compare_steps);
    *count = n;
    return steps;
}

// Whether a checkpoint was written after the link: a process was killed, or failed, in between.
static bool is_written_after(const struct run_folder *run, uint64_t step, const struct stat *link)
{
    char name[STEP_NAME_SIZE];
    struct stat st;
    name_step(name, step, SUFFIX);
    if (fstatat(run->lock, name, &st, 0) < 0)
        return false;
    return st.st_mtim.tv_sec != link->st_mtim.tv_sec ? st.st_mtim.tv_sec > link->st_mtim.tv_sec
                                                     : st.st_mtim.tv_nsec > link->st_mtim.tv_nsec;
}

char **run_folder_list(const struct run_folder *run)
{
    char target[PATH_MAX] = "";
    uint64_t linked = UINT64_MAX; // the step that the link names
    size_t n, i = 0, at = 0;
    struct stat st;
    bool has_link = fstatat(run->lock, LATEST, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (has_link && readlinkat(run->lock, LATEST, target, sizeof target - 1) > 0)
        parse_step_name(target, SUFFIX, &linked);
    uint64_t *steps = list_steps(run, linked, &n);
    char **list = steps ? mem_new(n + 2, sizeof *list) : NULL;
    bool complete = list;
    for (; complete && i < n && steps[i] > linked; i++)
        if (is_written_after(run, steps[i], &st)) {
            list[at] = run_folder_checkpoint(run, steps[i]);
            complete = list[at++];
        }
    if (complete && has_link) {
        // A link to any other file, or a file in the link's place, may be resumed from, too.
        list[at] = path_join(run->path, linked < UINT64_MAX ? target : LATEST);
        complete = list[at++];
    }
    for (; complete && i < n; i++) {
        list[at] = run_folder_checkpoint(run, steps[i]);
        complete = list[at++];
    }
    free(steps);
    if (list && !complete) {
        run_folder_free_list(list);
        list = NULL;
    }
    return list;
}

void run_folder_free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

int run_folder_prune(const struct run_folder *run, const struct keep_rule *rule, uint64_t saved)
{
    size_t n, multiples = 0;
    uint64_t *steps = list_steps(run, saved, &n);
    if (!steps)
        return -1;
    for (size_t i = 1; i < n; i++)
        multiples += steps[i] % rule->every == 0;
    // After `saved` and steps[0].
    size_t room = rule->keep > 2 ? rule->keep - 2 : 0;
    size_t room_for_rest = room > multiples ? room - multiples : 0;
    for (size_t i = rule->keep > 1 ? 1 : 0; i < n; i++) {
        size_t *left = i && steps[i] % rule->every == 0 ? &room : &room_for_rest;
        char name[STEP_NAME_SIZE];
        if (*left) {
            --*left;
            continue;
        }
        name_step(name, steps[i], SUFFIX);
        unlinkat(run->lock, name, 0); // it does no harm if this fails
    }
    free(steps);
    return 0;
}

static int move_link(const struct run_folder *run, const char *name)
{
    if (unlinkat(run->lock, NEW_LINK, 0) < 0 && errno != ENOENT)
        return error_set_errno(STATUS_IO, "%s/" NEW_LINK, run->path);
    if (symlinkat(name, run->lock, NEW_LINK) < 0 ||
        renameat(run->lock, NEW_LINK, run->lock, LATEST) < 0) {
        error_set_errno(STATUS_IO, "%s/" LATEST, run->path);
        unlinkat(run->lock, NEW_LINK, 0);
        return -1;
    }
    fsync(run->lock);
    return 0;
}

// So that after a power cut the log reaches as far as the checkpoint. Some file systems can't do
// it.
static int sync_log(const struct run_folder *run)
{
    if (fsync(run->log) < 0 && errno != EINVAL)
        return error_set_errno(STATUS_IO, "%s/" LOG ": cannot sync", run->path);
    return 0;
}

// Makes a folder within the run's if needed, and opens a file there. NULL with an error.
static struct output *open_within(const struct run_folder *run, const char *name, const char *path)
{
    struct output *output = NULL;
    if (mkdirat(run->lock, name, 0777) == 0)
        fsync(run->lock);
    int folder = openat(run->lock, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        error_set_errno(STATUS_CANT_CREATE, "%s/%s", run->path, name);
    else {
        output = output_open_in(folder, path);
        close(folder);
    }
    return output;
}

// Saves a further average of a checkpoint as a file of weights.
static int save_snapshot(const struct run_folder *run, uint64_t step, const struct dit_file *file,
                         size_t average)
{
    char name[STEP_NAME_SIZE], suffix[AVERAGE_TEXT_SIZE + sizeof SUFFIX];
    snprintf(suffix, sizeof suffix, "-%.15g" SUFFIX, file->more[average].width);
    name_step(name, step, suffix);
    char *folder = current_path(run, SNAPSHOTS), *path = folder ? path_join(folder, name) : NULL;
    struct output *output = path ? open_within(run, SNAPSHOTS, path) : NULL;
    int rc = output ? dit_file_save_average(output, file, average) : -1;
    free(path);
    free(folder);
    return rc;
}

// The checkpoint is read again, as the trainer has gone on.
static int save_snapshots(const struct run_folder *run, uint64_t step, const char *path)
{
    struct dit_file file;
    if (dit_file_open(&file, path, NULL) < 0)
        return -1;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < file.n_more; i++)
        if (file.more[i].width > 0)
            rc = save_snapshot(run, step, &file, i);
    dit_file_close(&file);
    return rc;
}

int run_folder_save(const struct run_folder *run, uint64_t step, const struct keep_rule *rule,
                    const struct dit_source *source, json_t *metadata)
{
    if (sync_log(run) < 0)
        return -1;
    char *path = run_folder_checkpoint(run, step);
    struct output *output = path ? output_open_in(run->lock, path) : NULL;
    int rc = output ? dit_file_save(output, source, metadata) : -1;
    if (rc == 0)
        rc = move_link(run, strrchr(path, '/') + 1);
    if (rc == 0 && rule->snapshots)
        rc = save_snapshots(run, step, path);
    if (rc == 0)
        rc = run_folder_prune(run, rule, step);
    free(path);
    return rc;
}

int run_folder_save_config(const struct run_folder *run, json_t *config)
{
    char *path = path_join(run->path, CONFIG);
    char *text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    struct output *output = NULL;
    int rc = -1;
    if (path && !text)
        error_set(STATUS_INTERNAL, "no memory for %s", path);
    else if (path && (output = output_open_in(run->lock, path)) &&
             output_write(output, text, strlen(text)) == 0 && output_write(output, "\n", 1) == 0) {
        rc = output_commit(output);
        output = NULL;
    }
    output_discard(output);
    free(text);
    free(path);
    json_decref(config);
    return rc;
}

char *run_folder_sample(const struct run_folder *run, uint64_t step)
{
    char name[STEP_NAME_SIZE], *folder = current_path(run, SAMPLES);
    name_step(name, step, SHEET_SUFFIX);
    char *path = folder ? path_join(folder, name) : NULL;
    free(folder);
    return path;
}

struct output *run_folder_open_sample(const struct run_folder *run, const char *path)
{
    return open_within(run, SAMPLES, path);
}

// Copies the lines up to `step`, but those of partial intervals, which go on. What no training has
// written is left out: lines that are no objects with a step, are too long, or have no end.
static int copy_log(FILE *log, uint64_t step, char *line, struct output *output)
{
    bool begun = false; // within a line that is too long
    for (long n; (n = line_read(log, '\n', line, LOG_LINE_MAX)) >= 0 && !feof(log);) {
        bool whole = !begun && n < LOG_LINE_MAX;
        begun = n == LOG_LINE_MAX;
        json_t *object = whole ? json_loadb(line, (size_t)n, 0, NULL) : NULL;
        json_int_t at = json_integer_value(json_object_get(object, "step"));
        bool partial = json_is_true(json_object_get(object, "partial"));
        bool kept = object && at >= 0 && (uint64_t)at <= step && !partial;
        json_decref(object);
        if (kept &&
            (output_write(output, line, (size_t)n) < 0 || output_write(output, "\n", 1) < 0))
            return -1;
    }
    return 0;
}

// Replaces the log by its lines up to `step`.
static int cut_log(const struct run_folder *run, const char *path, uint64_t step)
{
    if (access(path, F_OK) < 0)
        return 0;
    int fd = file_open_regular(path);
    FILE *log = fd < 0 ? NULL : fdopen(fd, "r");
    char *line = log ? mem_new(LOG_LINE_MAX, 1) : NULL;
    struct output *output = line ? output_open_in(run->lock, path) : NULL;
    int rc = output ? copy_log(log, step, line, output) : -1;
    if (rc == 0 && ferror(log))
        rc = error_set_errno(STATUS_NO_INPUT, "%s: cannot read", path);
    if (log)
        fclose(log);
    free(line);
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return rc;
}

int run_folder_open_log(struct run_folder *run, uint64_t step)
{
    char *path = path_join(run->path, LOG);
    struct stat st;
    int rc = path ? cut_log(run, path, step) : -1;
    if (rc == 0 && ((run->log = openat(run->lock, LOG, O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) < 0 ||
                    fstat(run->log, &st) < 0))
        rc = error_set_errno(STATUS_CANT_CREATE, "%s", path);
    if (rc == 0)
        run->log_size = (uint64_t)st.st_size;
    free(path);
    return rc;
}

// The position is explicit, so that the next attempt overwrites a line that was written by half.
int run_folder_flush(struct run_folder *run)
{
    size_t size = run->unwritten ? strlen(run->unwritten) : 0;
    for (size_t at = 0; at < size;) {
        ssize_t n = pwrite(run->log, run->unwritten + at, size - at, (off_t)(run->log_size + at));
        if (n < 0 && errno != EINTR)
            return error_set_errno(STATUS_IO, "%s/" LOG, run->path);
        at += n > 0 ? (size_t)n : 0;
    }
    run->log_size += size;
    free(run->unwritten);
    run->unwritten = NULL;
    return 0;
}

int run_folder_log(struct run_folder *run, json_t *line)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    char *lines = text ? mem_printf("%s%s\n", run->unwritten ? run->unwritten : "", text) : NULL;
    json_decref(line);
    free(text);
    if (!lines)
        return error_set(STATUS_INTERNAL, "%s/" LOG ": no memory for a line", run->path);
    free(run->unwritten);
    run->unwritten = lines;
    return run_folder_flush(run);
}
