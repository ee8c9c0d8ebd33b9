// Signals that ask a program to save, or to save and stop. SPDX-License-Identifier: MIT
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mapping.h"
#include "lib/base/tempfile.h"
#include "lib/tool/tool.h"

static volatile sig_atomic_t stop, save;
static const char *stop_answer;

static void on_stop(int signal)
{
    if (stop)
        tempfile_die(signal);
    stop = 1;
    if (!tool.quiet && tool.rank.index == 0)
        progress_message_in_handler("", stop_answer);
}

static void on_save(int signal)
{
    (void)signal;
    save = 1;
}

// A step may take minutes, so the answer is printed by the handler itself.
void tool_catch_signals(const char *answer)
{
    stop_answer = answer;
    signal(SIGPIPE, SIG_IGN); // Ctrl-C or a closed terminal also ends the `tee` of a pipe
    // SA_RESTART: interrupted reads continue; the program checks the flag after them.
    struct sigaction action = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction before;
    if (sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    action.sa_handler = on_save;
    sigaction(SIGUSR1, &action, NULL);
}

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
    size_t offset;
    struct stat st;
    const char *path = file_mapped_at(info->si_addr, &offset);
    (void)context;
    if (!path)
        tempfile_die(signal);
    bool cut = stat(path, &st) == 0 && (uint64_t)st.st_size <= offset;
    tempfile_remove_all();
    progress_message_in_handler(path, cut ? ": the file has become shorter while it was read"
                                          : ": the file cannot be read any more");
    _exit(STATUS_NO_INPUT);
}

void tool_catch_bus_errors(void)
{
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO},
              NULL);
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
