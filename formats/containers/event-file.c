// Builds the messages, innermost first, and writes their records. SPDX-License-Identifier: MIT
#include "formats/containers/event-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/base/error.h"
#include "lib/base/mem.h"

// A message of protobuf. Running out of memory is found by append_record.
struct message {
    uint8_t *bytes;
    size_t size;
    int failed;
};

enum wire { WIRE_VARINT, WIRE_FIXED64, WIRE_BYTES, WIRE_FIXED32 = 5 };

static void put_raw(struct message *message, const void *bytes, size_t size)
{
    if (message->failed || mem_grow(&message->bytes, message->size, size, 1) < 0) {
        message->failed = 1;
        return;
    }
    memcpy(message->bytes + message->size, bytes, size);
    message->size += size;
}

static void put_varint(struct message *message, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; value > 127; value >>= 7)
        bytes[n++] = (uint8_t)(value | 128);
    bytes[n++] = (uint8_t)value;
    put_raw(message, bytes, n);
}

static void put_key(struct message *message, unsigned field, enum wire wire)
{
    put_varint(message, field << 3 | wire);
}

static void put_number(struct message *message, unsigned field, uint64_t value)
{
    put_key(message, field, WIRE_VARINT);
    put_varint(message, value);
}

static void put_field(struct message *message, unsigned field, const void *bytes, size_t size)
{
    put_key(message, field, WIRE_BYTES);
    put_varint(message, size);
    put_raw(message, bytes, size);
}

// Puts a message into another one, and frees it.
static void put_message(struct message *message, unsigned field, struct message *inner)
{
    put_field(message, field, inner->bytes, inner->size);
    message->failed |= inner->failed;
    free(inner->bytes);
}

static struct message make_event(double seconds, uint64_t step)
{
    struct message event = {0};
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &seconds, sizeof bits);
    put_le(bytes, 8, bits);
    put_key(&event, 1, WIRE_FIXED64);
    put_raw(&event, bytes, 8);
    put_number(&event, 2, step);
    return event;
}

// CRC-32C, rotated and shifted.
static uint32_t masked_sum(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0);
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xA282EAD8;
}

static int write_at_end(struct event_file *file, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t n = pwrite(file->fd, bytes + at, size - at, (off_t)(file->size + at));
        if (n < 0 && errno != EINTR)
            return error_set_errno(STATUS_IO, "%s", file->path);
        at += n > 0 ? (size_t)n : 0;
    }
    file->size += size;
    return 0;
}

// Writes the event as a record, and frees it.
static int append_record(struct event_file *file, struct message *event)
{
    struct message record = {0};
    uint8_t head[12], tail[4];
    put_le(head, 8, event->size);
    put_le(head + 8, 4, masked_sum(head, 8));
    put_le(tail, 4, masked_sum(event->bytes, event->size));
    put_raw(&record, head, sizeof head);
    put_raw(&record, event->bytes, event->size);
    put_raw(&record, tail, sizeof tail);
    int rc = event->failed || record.failed
                 ? error_set(STATUS_INTERNAL, "%s: no memory for a record", file->path)
                 : write_at_end(file, record.bytes, record.size);
    free(event->bytes);
    free(record.bytes);
    return rc;
}

int event_file_create(struct event_file *file, int folder, const char *folder_path)
{
    char host[65] = "", name[160];
    const time_t now = time(NULL);
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld", (long long)now, host,
             (long)getpid());
    *file = (struct event_file){.fd = -1, .path = mem_printf("%s/%s", folder_path, name)};
    if (!file->path)
        return -1;
    file->fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->fd < 0) {
        error_set_errno(STATUS_CANT_CREATE, "%s: cannot create", file->path);
        event_file_close(file);
        return -1;
    }
    static const char version[] = "brain.Event:2";
    struct message event = make_event((double)now, 0);
    put_field(&event, 3, version, sizeof version - 1);
    int rc = append_record(file, &event);
    if (rc < 0)
        event_file_close(file);
    return rc;
}

void event_file_close(struct event_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    *file = (struct event_file){.fd = -1};
}

int event_file_add_start(struct event_file *file, double seconds, uint64_t step)
{
    struct message event = make_event(seconds, step), log = {0};
    put_number(&log, 1, 1); // SessionStatus START
    put_message(&event, 7, &log);
    return append_record(file, &event);
}

int event_file_add_scalars(struct event_file *file, double seconds, uint64_t step, size_t n,
                           const char *const *tags, const double *values)
{
    struct message event = make_event(seconds, step), summary = {0};
    for (size_t i = 0; i < n; i++) {
        struct message value = {0};
        const float number = (float)values[i];
        uint32_t bits;
        uint8_t bytes[4];
        memcpy(&bits, &number, sizeof bits);
        put_le(bytes, 4, bits);
        put_field(&value, 1, tags[i], strlen(tags[i]));
        put_key(&value, 2, WIRE_FIXED32);
        put_raw(&value, bytes, 4);
        put_message(&summary, 1, &value);
    }
    put_message(&event, 5, &summary);
    return append_record(file, &event);
}

// A big-endian number of a PNG's header.
static uint64_t png_number(const uint8_t *bytes)
{
    return (uint64_t)bytes[0] << 24 | (uint64_t)bytes[1] << 16 | (uint64_t)bytes[2] << 8 | bytes[3];
}

int event_file_add_image(struct event_file *file, double seconds, uint64_t step, const char *tag,
                         const uint8_t *png, size_t size)
{
    const uint64_t rgb = 3;
    if (size < 24)
        return error_set(STATUS_DATA, "%s: expected a PNG, found %zu bytes", file->path, size);
    struct message event = make_event(seconds, step), summary = {0}, value = {0}, image = {0};
    put_number(&image, 1, png_number(png + 20));
    put_number(&image, 2, png_number(png + 16));
    put_number(&image, 3, rgb);
    put_field(&image, 4, png, size);
    put_field(&value, 1, tag, strlen(tag));
    put_message(&value, 4, &image);
    put_message(&summary, 1, &value);
    put_message(&event, 5, &summary);
    return append_record(file, &event);
}
