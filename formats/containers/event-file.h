// Writes event files, which TensorBoard shows. SPDX-License-Identifier: MIT
//
// A file is a row of records: u64 size, u32 checksum of that, the data, u32 checksum of the data;
// the checksums are CRC-32C, rotated by 15 bits plus 0xa282ead8. The data is a protobuf message:
// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
// SessionLog session_log = 7; }, Summary { repeated Value value = 1; }, Value { string tag = 1;
// float simple_value = 2; Image image = 4; }, Image { int32 height = 1, width = 2, colorspace = 3;
// bytes encoded_image_string = 4; }, SessionLog { SessionStatus status = 1; }.
#ifndef DIT_EVENT_FILE_H
#define DIT_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>

struct event_file {
    int fd;        // -1: not open
    uint64_t size; // bytes, all whole records
    char *path;    // for messages
};

// Creates a file with a name of its own in the open folder, whose path is for messages, and writes
// its first record. -1 with an error.
int event_file_create(struct event_file *file, int folder, const char *folder_path);
void event_file_close(struct event_file *file);

// These append a record at `time`, in seconds since 1970. -1 with an error (74); what was written
// by half is then overwritten by the next record. A training (re)starts: what earlier files hold of
// this step and later ones is not true any more.
int event_file_add_start(struct event_file *file, double time, uint64_t step);
int event_file_add_scalars(struct event_file *file, double time, uint64_t step, size_t n,
                           const char *const *tags, const double *values);
// png: a whole file.
int event_file_add_image(struct event_file *file, double time, uint64_t step, const char *tag,
                         const uint8_t *png, size_t size);

#endif
