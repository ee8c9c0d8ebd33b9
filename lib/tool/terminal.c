// Asks a terminal by the escape codes that every one of them answers, also over ssh, where the
// environment tells little. SPDX-License-Identifier: MIT
#include "lib/tool/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "lib/base/clock.h"

#define COLUMNS 80
#define TIMEOUT 1.0 // seconds

// A picture of one pixel that is only asked about; the size of a cell; and what kind of terminal it
// is, which all answer, and last.
static const char question[] = "\033_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\033\\"
                               "\033[16t"
                               "\033[c";

// The end of the answer's last part, "ESC [ ? NUMBERS c"; NULL if it has not come yet.
static const char *find_end(const char *answer)
{
    const char *kind = strstr(answer, "\033[?");
    const char *end = kind ? kind + 3 + strspn(kind + 3, "0123456789;") : NULL;
    return end && *end == 'c' ? end : NULL;
}

static void read_answer(const char *answer, struct terminal *terminal)
{
    const char *cell = strstr(answer, "\033[6;"), *kind = strstr(answer, "\033[?");
    unsigned height, width;
    terminal->kitty = strstr(answer, "\033_Gi=31;OK");
    if (cell && sscanf(cell, "\033[6;%u;%ut", &height, &width) == 2)
        terminal->cell_width = width;
    for (const char *at = kind + 3; at < find_end(answer); at += strspn(at, ";")) {
        char *next;
        terminal->sixel = strtol(at, &next, 10) == 4 || terminal->sixel;
        at = next > at ? next : at + 1;
    }
}

// Reads until the answer is complete or the time is over. False then.
static bool await_answer(int fd, char *answer, size_t size)
{
    const double until = clock_seconds() + TIMEOUT;
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    for (size_t n = 0; n + 1 < size && clock_seconds() < until;) {
        ssize_t got = poll(&poller, 1, 50) > 0 ? read(fd, answer + n, size - 1 - n) : 0;
        if (got < 0)
            return false;
        n += (size_t)got;
        answer[n] = 0;
        if (find_end(answer))
            return true;
    }
    return false;
}

// False if there is no answer. The terminal is left as it was, whatever signal comes meanwhile.
static bool ask_terminal(struct terminal *terminal)
{
    struct termios before, quiet;
    sigset_t all, mask;
    char answer[512] = "";
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return false;
    // A process in the background would be stopped by this.
    bool answered = false;
    if (tcgetpgrp(fd) == getpgrp() && tcgetattr(fd, &before) == 0) {
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, &mask);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        quiet.c_cc[VMIN] = 0;
        quiet.c_cc[VTIME] = 0;
        tcsetattr(fd, TCSANOW, &quiet);
        answered = write(fd, question, sizeof question - 1) == (ssize_t)sizeof question - 1 &&
                   await_answer(fd, answer, sizeof answer);
        tcsetattr(fd, TCSANOW, &before);
        sigprocmask(SIG_SETMASK, &mask, NULL);
    }
    close(fd);
    if (answered)
        read_answer(answer, terminal);
    return answered;
}

static bool environment_has(const char *name, const char *text)
{
    const char *value = getenv(name);
    return value && strstr(value, text);
}

// A multiplexer passes on the environment of the terminal that it was started in, but no pictures.
static void read_environment(struct terminal *terminal)
{
    if (getenv("TMUX") || environment_has("TERM", "tmux") || environment_has("TERM", "screen"))
        return;
    terminal->kitty = getenv("KITTY_WINDOW_ID") || environment_has("TERM", "kitty") ||
                      environment_has("TERM", "ghostty") ||
                      environment_has("TERM_PROGRAM", "WezTerm") ||
                      environment_has("TERM_PROGRAM", "ghostty");
    terminal->sixel = environment_has("TERM", "sixel") || environment_has("TERM", "foot") ||
                      environment_has("TERM", "mlterm");
}

struct terminal terminal_ask(void)
{
    struct terminal terminal = {.columns = COLUMNS};
    struct winsize size = {0};
    if (!isatty(STDOUT_FILENO))
        return terminal;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col) {
        terminal.columns = size.ws_col;
        terminal.cell_width = size.ws_xpixel / size.ws_col;
    }
    if (!ask_terminal(&terminal))
        read_environment(&terminal);
    return terminal;
}
