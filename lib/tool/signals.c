// Signals that ask a program to save, or to save and stop. SPDX-License-Identifier: MIT
#include <signal.h>

#include "lib/base/tempfile.h"
#include "lib/tool/tool.h"

static volatile sig_atomic_t stop, save;

static void on_stop(int signal)
{
    if (stop)
        tempfile_die(signal);
    stop = 1;
}

static void on_save(int signal)
{
    (void)signal;
    save = 1;
}

void tool_catch_signals(void)
{
    // SA_RESTART: interrupted reads continue; the program checks the flag after them.
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = on_save;
    sigaction(SIGUSR1, &action, NULL);
}

bool tool_signal_stop(void)
{
    return stop;
}

bool tool_signal_save(void)
{
    bool asked = save;
    if (asked)
        save = 0;
    return asked;
}
