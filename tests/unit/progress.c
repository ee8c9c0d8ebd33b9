// The line of progress on a terminal and elsewhere, with a clock that the test moves.
// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "lib/tool/tool.h"
#include "tests/tap.h"

// The time of this program, which moves only when a test adds to it.
static double seconds;

int clock_gettime(clockid_t id, struct timespec *t)
{
    (void)id;
    t->tv_sec = (time_t)seconds;
    t->tv_nsec = (long)((seconds - (double)t->tv_sec) * 1e9);
    return 0;
}

static char said[1 << 16];

// Runs `run` in a child whose standard error is child_end, and reads into `said` what it writes
// there.
static void listen_to(void (*run)(void), int child_end, int own_end)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(child_end, STDERR_FILENO);
        close(child_end);
        close(own_end);
        run();
        _exit(0);
    }
    close(child_end);
    size_t used = 0;
    for (ssize_t n;
         used < sizeof said - 1 && (n = read(own_end, said + used, sizeof said - 1 - used)) > 0;)
        used += (size_t)n;
    said[used] = 0;
    close(own_end);
    waitpid(pid, NULL, 0);
}

static bool on_terminal(void (*run)(void), unsigned short columns)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
        return false;
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0)
        return false;
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    ioctl(slave, TIOCSWINSZ, &(struct winsize){.ws_col = columns, .ws_row = 24});
    listen_to(run, slave, master);
    return true;
}

static void on_pipe(void (*run)(void))
{
    int ends[2];
    if (pipe(ends) == 0)
        listen_to(run, ends[1], ends[0]);
}

static size_t count(const char *what)
{
    size_t n = 0;
    for (const char *at = said; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static bool ends_with(const char *end)
{
    size_t a = strlen(said), b = strlen(end);
    return a >= b && strcmp(said + a - b, end) == 0;
}

static void hundred(double each)
{
    progress_start("images", 100);
    for (int i = 0; i < 100; i++) {
        seconds += each;
        progress_add(1);
    }
    progress_finish();
}

static void fast(void)
{
    hundred(0.0625);
}
static void slow(void)
{
    hundred(1);
}
static void resumed(void)
{
    progress_start("steps", 100);
    progress_skip(60);
    for (int i = 0; i < 40; i++) {
        seconds += 1;
        progress_add(1);
    }
    progress_finish();
}
static void at_once(void)
{
    hundred(0);
}
static void start_with(const char *option)
{
    char name[] = "test", text[32];
    snprintf(text, sizeof text, "%s", option);
    const struct option options[] = {TOOL_OPTIONS_COMMON, OPTION_END};
    tool_start(2, (char *[]){name, text, NULL}, &(struct tool_info){"test", "", "", options});
    hundred(1);
}
static void fast_verbose(void)
{
    start_with("--verbose");
}
static void fast_quiet(void)
{
    start_with("--quiet");
}
static void fast_without(void)
{
    start_with("--no-progress");
}

static void with_words(void)
{
    progress_start("steps", 0);
    progress_text("loss %.3f", 0.153);
    seconds += 10000;
    progress_add(5);
    tool_warn("careful\033[2J\n");
    progress_text(NULL);
    seconds += 1;
    progress_add(1);
    progress_finish();
    tool_note("done");
}

static void *add_many(void *arg)
{
    for (int i = 0; i < 1000; i++)
        progress_add(1);
    return arg;
}

static void from_threads(void)
{
    pthread_t threads[4];
    progress_start("images", 4000);
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add_many, NULL);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    seconds += 40;
    progress_add(0);
}

// The parent draws and waits for a child that would draw, too; then for another, which starts
// later.
static void two_programs(void)
{
    progress_start("first", 0);
    seconds += 1;
    progress_add(1);
    pid_t pid = fork();
    if (pid == 0) {
        progress_start("second", 0);
        seconds += 1;
        progress_add(1);
        progress_finish();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    progress_finish();
}

static void test_terminal(void)
{
    setenv("TERM", "xterm", 1);
    if (!on_terminal(fast, 80)) {
        skip("progress on a terminal", "no pseudo-terminals here");
        return;
    }
    ok(count("\r\033[K") == 51 && count("\n") == 1,
       "one line, redrawn at most 10 times a second: %zu times in 6.25", count("\r\033[K"));
    ok(count("\033[Ktest: 50/100 images 50%, 16.0/s, 0:03 left\r") == 1,
       "the line has done, total, rate and time left");
    ok(ends_with("\033[Ktest: 100/100 images 100%, 16.0/s, 0:06\n"), "the last line stays");
    on_terminal(fast, 20);
    ok(ends_with("\033[Ktest: 100/100 image\n"), "the line is cut to a narrow terminal");
    on_terminal(with_words, 80);
    ok(count("\033[Ktest: 5 steps, 0.0005/s, 2:46:40, loss 0.153\r\033[Ktest: careful?[2J?\n") == 1,
       "a message replaces the line, and its control characters");
    ok(ends_with("test: 6 steps, 0.0006/s, 2:46:41\ntest: done\n"),
       "after the end messages clear no line");
    on_terminal(two_programs, 80);
    ok(count("first") == 2 && count("second") == 0,
       "one program of a pipe at a time draws on the terminal");
    on_terminal(at_once, 80);
    ok(!*said, "work that takes no time shows nothing on a terminal");
    setenv("TERM", "dumb", 1);
    on_terminal(slow, 80);
    ok(count("\033") == 0 && count("\n") == 4, "a dumb terminal gets whole lines");
}

static void test_log(void)
{
    on_pipe(slow);
    ok(strcmp(said, "test: 30/100 images 30%, 1.0/s, 1:10 left\n"
                    "test: 60/100 images 60%, 1.0/s, 0:40 left\n"
                    "test: 90/100 images 90%, 1.0/s, 0:10 left\n"
                    "test: 100/100 images 100%, 1.0/s, 1:40\n") == 0,
       "without a terminal there is a line every 30 seconds and one at the end");
    on_pipe(fast);
    ok(!*said, "work shorter than 30 seconds shows nothing without a terminal");
    on_pipe(resumed);
    ok(strcmp(said, "test: 90/100 steps 90%, 1.0/s, 0:10 left\n"
                    "test: 100/100 steps 100%, 1.0/s, 0:40\n") == 0,
       "what was done before counts, but not for the rate");
    on_pipe(fast_verbose);
    ok(strstr(said, "test: 100/100 images 100%"), "a program that is started shows its progress");
    on_pipe(fast_quiet);
    ok(!*said, "--quiet shows no progress");
    on_pipe(fast_without);
    ok(!*said, "--no-progress shows no progress");
    on_pipe(from_threads);
    ok(strcmp(said, "test: 4000/4000 images 100%, 100/s, 0:40\n") == 0,
       "progress_add counts from all threads");
}

int main(void)
{
    progress_setup("test", true);
    test_terminal();
    test_log();
    return tap_done();
}
