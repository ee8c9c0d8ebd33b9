// The error of each thread: a status and a message. SPDX-License-Identifier: MIT
#include "lib/base/error.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/printable.h"

static _Thread_local struct error current;

// The arguments may point into the current message, so the new one is written to a copy.
static void set_message(enum status status, const char *format, va_list ap, const char *reason)
{
    struct error next = {.status = status};
    int n = vsnprintf(next.text, sizeof next.text, format, ap);
    size_t used = n < 0 ? 0 : strnlen(next.text, sizeof next.text);
    if (reason)
        snprintf(next.text + used, sizeof next.text - used, ": %s", reason);
    current = next;
}

int error_set(enum status status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_message(status, format, ap, NULL);
    va_end(ap);
    return -1;
}

// What the process has run out of says nothing about the file in hand.
static bool is_exhaustion(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE;
}

int error_set_errno(enum status status, const char *format, ...)
{
    const char *reason = strerror(errno);
    va_list ap;
    va_start(ap, format);
    set_message(is_exhaustion(errno) ? STATUS_INTERNAL : status, format, ap, reason);
    va_end(ap);
    return -1;
}

int error_prefix(const char *format, ...)
{
    struct error old = current;
    va_list ap;
    va_start(ap, format);
    set_message(old.status, format, ap, old.text);
    va_end(ap);
    return -1;
}

const char *error_message(void)
{
    return current.text;
}

enum status error_status(void)
{
    return current.status;
}

char *error_shown(const char *text, size_t size, char out[ERROR_SHOWN_SIZE])
{
    size_t n = size < ERROR_SHOWN_SIZE ? size : ERROR_SHOWN_SIZE - 1;
    while (n < size && n && (text[n] & 0xC0) == 0x80) // don't cut within a UTF-8 character
        n--;
    memcpy(out, text, n);
    out[make_printable(out, n)] = 0;
    return out;
}

void error_save(struct error *error)
{
    *error = current;
}

int error_restore(const struct error *error)
{
    current = *error;
    return -1;
}
