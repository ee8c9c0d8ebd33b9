// What the terminal of a program can show. SPDX-License-Identifier: MIT
#ifndef DIT_TERMINAL_H
#define DIT_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

struct terminal {
    size_t columns;    // 80 if unknown
    size_t cell_width; // of a column, in pixels; 0 if unknown
    bool kitty, sixel; // it knows these ways to show pictures
};

// Asks the terminal that standard output is, for up to a second, and looks at the environment where
// it does not answer. Where standard output is none, it knows nothing of pictures.
struct terminal terminal_ask(void);

#endif
