// What the folder of a training holds: its newest checkpoint, and how far it has come.
// SPDX-License-Identifier: MIT
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/dit-info/facts.h"
#include "lib/base/error.h"
#include "lib/base/io.h"
#include "lib/base/mem.h"
#include "lib/tool/tool.h"

#define LINE_SIZE (64 << 10) // bytes of a line of the log

static int compare_file_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Adds the files of a folder that are named NUMBER<SUFFIX>, sorted; none without the folder. -1
// with an error.
static int add_numbered(json_t *facts, const char *name, const char *folder, const char *suffix)
{
    DIR *dir = opendir(folder);
    char **names = NULL;
    size_t n = 0;
    json_t *list = json_array();
    if (!dir && errno != ENOENT) {
        json_decref(list);
        return error_set_errno(STATUS_NO_INPUT, "%s: cannot open", folder);
    }
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        const char *end = entry->d_name + strspn(entry->d_name, "0123456789");
        if (end == entry->d_name || strcmp(end, suffix) != 0)
            continue;
        if (mem_grow(&names, n, 1, sizeof *names) < 0 || !(names[n] = mem_strdup(entry->d_name)))
            tool_fail();
        n++;
    }
    if (dir)
        closedir(dir);
    if (n)
        qsort(names, n, sizeof *names, compare_file_names);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_string(names[i]));
        free(names[i]);
    }
    free(names);
    json_object_set_new(facts, name, list);
    return 0;
}

// Adds the last line of the log that can be read, if there is one. -1 with an error.
static int add_last_line(json_t *facts, const char *path)
{
    static char line[LINE_SIZE];
    if (access(path, F_OK) < 0)
        return 0;
    int fd = file_open_regular(path);
    FILE *log = fd < 0 ? NULL : fdopen(fd, "r");
    if (!log)
        return fd < 0 ? -1 : error_set_errno(STATUS_NO_INPUT, "%s", path);
    errno = 0;
    for (long length; (length = line_read(log, '\n', line, sizeof line)) >= 0; errno = 0) {
        json_t *value = (size_t)length < sizeof line ? json_loads(line, 0, NULL) : NULL;
        if (json_is_object(value))
            json_object_set(facts, "log", value);
        json_decref(value);
    }
    int rc = ferror(log) ? error_set_errno(STATUS_NO_INPUT, "%s: cannot read", path) : 0;
    fclose(log);
    return rc;
}

// Adds what the newest checkpoint holds, if there is one. -1 with an error.
static int add_latest(json_t *facts, const char *path, bool check)
{
    json_t *checkpoint = access(path, F_OK) == 0 ? facts_of_weights(path, check) : json_object();
    if (!checkpoint)
        return -1;
    json_object_update_missing(facts, checkpoint);
    json_decref(checkpoint);
    return 0;
}

json_t *facts_of_run(const char *folder, bool check)
{
    char *latest = path_join(folder, "latest.safetensors"), *log = path_join(folder, "log.jsonl"),
         *samples = path_join(folder, "samples");
    if (!latest || !log || !samples)
        tool_fail();
    json_t *facts = json_pack("{s:s}", "kind", "run");
    if (add_numbered(facts, "checkpoints", folder, ".safetensors") < 0 ||
        add_numbered(facts, "samples", samples, ".png") < 0 || add_last_line(facts, log) < 0 ||
        add_latest(facts, latest, check) < 0) {
        json_decref(facts);
        facts = NULL;
    }
    free(latest);
    free(log);
    free(samples);
    return facts;
}
