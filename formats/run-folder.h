// The folder of a training: checkpoints, the link to the newest, the log.
// SPDX-License-Identifier: MIT
#ifndef DIT_RUN_FOLDER_H
#define DIT_RUN_FOLDER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/trainer.h"

struct run_folder {
    const char *path;
    FILE *log;
    int lock;
};

// Makes the folder and locks it. Refuses one in use by another process (64). With an error -1.
int run_folder_open(struct run_folder *run, const char *path);
void run_folder_close(struct run_folder *run);
// The path of the newest checkpoint (malloc'd), or NULL, no message, if there is none.
char *run_folder_latest(const struct run_folder *run);
// Writes PATH/0000123.safetensors, moves the link latest.safetensors there, keeps the newest
// `keep`.
int run_folder_save(struct run_folder *run, uint64_t step, size_t keep, struct trainer *trainer,
                    json_t *metadata);
// Opens PATH/log.jsonl; lines of steps after `step` are dropped (they'll come again).
int run_folder_open_log(struct run_folder *run, uint64_t step);
// Appends one line, an object with a "step". Takes the reference.
int run_folder_log(struct run_folder *run, json_t *line);

#endif
