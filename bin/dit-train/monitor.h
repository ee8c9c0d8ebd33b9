// Tells other programs how a run goes: TensorBoard by its event files, Prometheus by a file that
// node_exporter's textfile collector reads. SPDX-License-Identifier: MIT
#ifndef DIT_MONITOR_H
#define DIT_MONITOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "bin/dit-train/run-folder.h"

struct monitor;
// `tensorboard`: makes PATH/tensorboard/ in the run's folder if needed, and a file in it.
// `prometheus`: a file, or NULL. Training goes on after `step`. NULL with an error.
struct monitor *monitor_open(const struct run_folder *run, bool tensorboard, const char *prometheus,
                             uint64_t step);
void monitor_close(struct monitor *monitor); // NULL is fine

// Passes on the numbers of a line of the log, or a sheet of images. What can't be written is a
// warning, once, and left out. NULL is fine for a monitor.
void monitor_log(struct monitor *monitor, const json_t *line);
void monitor_sheet(struct monitor *monitor, uint64_t step, const char *path);

#endif
