// The folder of a training: checkpoints, the link to the newest, the log, pictures.
// SPDX-License-Identifier: MIT
#ifndef DIT_RUN_FOLDER_H
#define DIT_RUN_FOLDER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/weights/dit-file.h"

struct run_folder {
    const char *path;
    int lock;
    int log;           // descriptor
    uint64_t log_size; // bytes of whole lines
    char *unwritten;   // lines that found no room
};

// Makes the folder, locks it, and removes what a killed process left half-written. Refuses one in
// use by another process (64). With an error -1.
int run_folder_open(struct run_folder *run, const char *path);
void run_folder_close(struct run_folder *run);
// The paths of the checkpoints to go on from, the best first: that of the link, then those of the
// steps before it; without a link all, the newest first. NULL-terminated; run_folder_free_list it.
// NULL with an error.
char **run_folder_list(const struct run_folder *run);
void run_folder_free_list(char **list);

// The path of the checkpoint after a step, malloc'd.
char *run_folder_checkpoint(const struct run_folder *run, uint64_t step);
// Writes it, moves the link latest.safetensors there, and prunes. Another thread may log meanwhile.
int run_folder_save(const struct run_folder *run, uint64_t step, size_t keep,
                    const struct dit_source *source, json_t *metadata);
// Removes all checkpoints but `keep`: that of step `saved` and the newest others.
int run_folder_prune(const struct run_folder *run, size_t keep, uint64_t saved);
// Writes PATH/config.json. Takes the reference (NULL: an error).
int run_folder_save_config(const struct run_folder *run, json_t *config);
// PATH/samples/0000123.png, malloc'd; the folder is made.
char *run_folder_sample(const struct run_folder *run, uint64_t step);

// Opens PATH/log.jsonl; lines of steps after `step` are dropped (they'll come again).
int run_folder_open_log(struct run_folder *run, uint64_t step);
// Appends one line, an object with a "step". Takes the reference (NULL: an error). A line that
// can't be written is kept and written before the next; -1 with an error as long as there is one.
int run_folder_log(struct run_folder *run, json_t *line);
// Writes the lines that are kept. -1 with an error if it still can't be done.
int run_folder_flush(struct run_folder *run);

#endif
