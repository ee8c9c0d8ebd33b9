// The folder of a run: checkpoints, a link to the newest, the log, sample images.
// SPDX-License-Identifier: MIT
#ifndef DIT_RUN_FOLDER_H
#define DIT_RUN_FOLDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/weights/dit-file.h"

struct run_folder {
    const char *path;
    int lock;          // descriptor of the folder itself, locked
    int log;           // descriptor
    uint64_t log_size; // bytes, all complete lines
    char *unwritten;   // lines that could not be written yet, or NULL
};

// Makes the folder if needed, locks it, and removes its own files that a killed process left
// half-written. From then on all goes through its descriptor, so the folder may be renamed. -1 with
// an error, also if another process uses the folder (64).
int run_folder_open(struct run_folder *run, const char *path);
void run_folder_close(struct run_folder *run);
// The number of the open folder in its file system, which it keeps when it is renamed; 0 if
// unknown.
uint64_t run_folder_id(const struct run_folder *run);
// The paths of the checkpoints to try when resuming, best first: those of later steps that were
// written after the link, the one that the link names, then those of earlier steps, newest first;
// without a link, all. NULL-terminated, to be freed by run_folder_free_list. NULL with an error.
char **run_folder_list(const struct run_folder *run);
void run_folder_free_list(char **list);

// The path of the checkpoint after a step, malloc'd.
char *run_folder_checkpoint(const struct run_folder *run, uint64_t step);
// Which checkpoints stay when one is saved: `keep` of them, which are that one, the newest other,
// then the newest of steps that are multiples of `every`, and then the newest of the rest.
struct keep_rule {
    size_t keep;
    uint64_t every;
    bool snapshots; // its power-function averages stay for good, in files of their own
};
// Syncs the log, writes the checkpoint of a step, lets the link latest.safetensors point to it, and
// prunes. With rule->snapshots its power-function averages are copied to
// snapshots/STEP-WIDTH.safetensors. Another thread may log meanwhile. -1 with an error.
int run_folder_save(const struct run_folder *run, uint64_t step, const struct keep_rule *rule,
                    const struct dit_source *source, json_t *metadata);
// Removes the checkpoints that do not stay with that of step `saved`.
int run_folder_prune(const struct run_folder *run, const struct keep_rule *rule, uint64_t saved);
// Writes PATH/config.json and drops the reference to `config`. NULL, from a failed call that set
// the error, is passed on as -1.
int run_folder_save_config(const struct run_folder *run, json_t *config);
// The path of a step's sheet of images, PATH/samples/STEP.png, malloc'd. NULL with an error.
char *run_folder_sample(const struct run_folder *run, uint64_t step);
// Makes PATH/samples if needed and opens a file of such a path. NULL with an error.
struct output *run_folder_open_sample(const struct run_folder *run, const char *path);

// Opens PATH/log.jsonl and drops lines after `step`, and partial ones ("partial": true), which the
// resumed run will log again.
int run_folder_open_log(struct run_folder *run, uint64_t step);
// Appends one line, an object with a "step", and drops the reference. A line that can't be written
// is kept and written before the next one; -1 with an error while any is unwritten.
int run_folder_log(struct run_folder *run, json_t *line);
// Writes the lines that were kept. -1 with an error if that fails again.
int run_folder_flush(struct run_folder *run);

#endif
