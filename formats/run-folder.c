// Checkpoints by number, one link, one log. SPDX-License-Identifier: MIT
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/dit-file.h"
#include "formats/run-folder.h"
#include "lib/error.h"
#include "lib/io.h"
#include "lib/mem.h"

#define SUFFIX ".safetensors"
#define LATEST "latest" SUFFIX

int run_folder_open(struct run_folder *run, const char *path)
{
    *run = (struct run_folder){.path = path, .lock = -1};
    if (folder_make(path) < 0)
        return -1;
    run->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0)
        return error_set_errno(STATUS_CANT_CREATE, "%s", path);
    if (flock(run->lock, LOCK_EX | LOCK_NB) < 0) {
        error_set(STATUS_USAGE, "%s: another dit-train is at work in this folder", path);
        run_folder_close(run);
        return -1;
    }
    return 0;
}

void run_folder_close(struct run_folder *run)
{
    if (run->log)
        fclose(run->log);
    if (run->lock >= 0)
        close(run->lock);
    *run = (struct run_folder){.lock = -1};
}

char *run_folder_latest(const struct run_folder *run)
{
    char *path = path_join(run->path, LATEST);
    struct stat st;
    if (path && lstat(path, &st) == 0) // a link that leads nowhere is an error later, not a new run
        return path;
    free(path);
    return NULL;
}

// The step of a checkpoint's file name; false for other files.
static bool parse_name(const char *name, uint64_t *step)
{
    char *end;
    if (*name < '0' || *name > '9')
        return false;
    *step = strtoull(name, &end, 10);
    return strcmp(end, SUFFIX) == 0;
}

static int compare_steps(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

// Removes all checkpoints but `keep`: that of step `saved` and the newest others. One that can't be
// removed is left.
static int prune(const struct run_folder *run, size_t keep, uint64_t saved)
{
    DIR *dir = opendir(run->path);
    if (!dir)
        return error_set_errno(STATUS_IO, "%s", run->path);
    uint64_t *steps = NULL;
    size_t n = 0, room = 0;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(dir));) {
        uint64_t step;
        if (!parse_name(entry->d_name, &step) || step == saved)
            continue;
        if (n == room) {
            uint64_t *grown = mem_resize(steps, room = 2 * room + 16, sizeof *steps);
            if (!grown) {
                rc = -1;
                break;
            }
            steps = grown;
        }
        steps[n++] = step;
    }
    if (n > 1)
        qsort(steps, n, sizeof *steps, compare_steps);
    for (size_t i = keep - 1; rc == 0 && i < n; i++) {
        char name[40];
        snprintf(name, sizeof name, "%07llu" SUFFIX, (unsigned long long)steps[i]);
        unlinkat(dirfd(dir), name, 0);
    }
    free(steps);
    closedir(dir);
    return rc;
}

static int move_link(const struct run_folder *run, const char *name)
{
    const char *temporary = ".latest.new";
    if (unlinkat(run->lock, temporary, 0) < 0 && errno != ENOENT)
        return error_set_errno(STATUS_IO, "%s/%s", run->path, temporary);
    if (symlinkat(name, run->lock, temporary) < 0 ||
        renameat(run->lock, temporary, run->lock, LATEST) < 0)
        return error_set_errno(STATUS_IO, "%s/" LATEST, run->path);
    fsync(run->lock);
    return 0;
}

int run_folder_save(struct run_folder *run, uint64_t step, size_t keep, struct trainer *trainer,
                    json_t *metadata)
{
    char name[40];
    snprintf(name, sizeof name, "%07llu" SUFFIX, (unsigned long long)step);
    char *path = path_join(run->path, name);
    int rc = path ? dit_file_save(path, trainer, metadata) : -1;
    if (rc == 0)
        rc = move_link(run, name);
    if (rc == 0)
        rc = prune(run, keep, step);
    free(path);
    return rc;
}

// Rewrites the log with the lines up to `step`, in place of the old one.
static int cut_log(const char *path, uint64_t step)
{
    uint8_t *text;
    size_t size;
    if (access(path, F_OK) < 0)
        return 0;
    if (file_read_all(path, &text, &size, SIZE_MAX - 1) < 0)
        return -1;
    struct output *output = output_open(path);
    int rc = output ? 0 : -1;
    for (char *line = (char *)text, *end; rc == 0 && (end = strchr(line, '\n')); line = end + 1) {
        json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
        json_int_t at = json_integer_value(json_object_get(object, "step"));
        if (object && at >= 0 && (uint64_t)at <= step)
            rc = output_write(output, line, (size_t)(end + 1 - line));
        json_decref(object);
    }
    free(text);
    if (rc == 0)
        return output_commit(output);
    output_discard(output);
    return rc;
}

int run_folder_open_log(struct run_folder *run, uint64_t step)
{
    char *path = path_join(run->path, "log.jsonl");
    int rc = path ? cut_log(path, step) : -1;
    if (rc == 0 && !(run->log = fopen(path, "ae")))
        rc = error_set_errno(STATUS_CANT_CREATE, "%s", path);
    free(path);
    return rc;
}

int run_folder_log(struct run_folder *run, json_t *line)
{
    int rc = line ? json_dumpf(line, run->log, JSON_COMPACT | JSON_REAL_PRECISION(7)) : -1;
    json_decref(line);
    if (rc < 0 || fputc('\n', run->log) == EOF || fflush(run->log) != 0)
        return error_set_errno(STATUS_IO, "%s/log.jsonl", run->path);
    return 0;
}
