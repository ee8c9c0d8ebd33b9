// Outputs appear complete or not at all, however the process ends. SPDX-License-Identifier: MIT
#include "lib/base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/error.h"
#include "lib/base/mapping.h"
#include "lib/base/scratch.h"
#include "lib/tool/tool.h"
#include "tests/tap.h"

static size_t entries(const char *folder)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (dir)
        closedir(dir);
    return n;
}

static bool holds(const char *path, const char *text)
{
    uint8_t *data;
    size_t size;
    if (file_read_all(path, &data, &size, 1 << 20) < 0)
        return false;
    bool same = size == strlen(text) && memcmp(data, text, size) == 0 && data[size] == 0;
    free(data);
    return same;
}

static bool failed(int rc, enum status status, const char *text)
{
    bool good = rc == -1 && error_status() == status && strstr(error_message(), text);
    diag("status %d: %s", (int)error_status(), error_message());
    return good;
}

static void put(const char *path, const char *text)
{
    struct output *out = output_open(path);
    if (!out || output_write(out, text, strlen(text)) < 0 || output_commit(out) < 0)
        diag("%s", error_message());
}

// Whether the one file whose name ends so is for its owner alone.
static bool only_owner_reads(const char *ending)
{
    DIR *folder = opendir(".");
    size_t found = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat st;
        size_t length = strlen(entry->d_name), n = strlen(ending);
        if (length > n && strcmp(entry->d_name + length - n, ending) == 0)
            found += stat(entry->d_name, &st) == 0 && (st.st_mode & 07777) == 0600 ? 1 : 2;
    }
    closedir(folder);
    return found == 1;
}

static void test_commit(void)
{
    umask(027);
    struct output *out = output_open("new");
    ok(out && output_can_rewrite(out) && output_is_file(out) &&
           strcmp(output_name(out), "new") == 0,
       "an output reports its name and its kind");
    ok(output_write(out, "hello ", 6) == 0 && output_write(out, "world", 5) == 0 &&
           output_write_at(out, "J", 1, 0) == 0 && output_offset(out) == 11,
       "an output is written, and its bytes overwritten");
    ok(access("new", F_OK) < 0 && entries(".") == 1, "an output has no name before the commit");
    ok(only_owner_reads(".tmp"), "... and nobody but its owner reads it, whatever the umask");
    struct stat st;
    ok(output_commit(out) == 0 && holds("new", "Jello world") && entries(".") == 1,
       "after the commit the file is complete, and nothing else is left");
    ok(stat("new", &st) == 0 && (st.st_mode & 07777) == 0640,
       "the permissions of an output follow the umask");
    put("new", "again");
    ok(holds("new", "again"), "a commit replaces an old file");
    chmod("new", 0604);
    out = output_open("new");
    ok(out && only_owner_reads(".tmp"),
       "while a private file is replaced, nobody else reads the new");
    ok(out && output_commit(out) == 0 && stat("new", &st) == 0 && (st.st_mode & 07777) == 0604,
       "a commit keeps the permissions of the file that it replaces");
    ok(symlink("new", "link") == 0, "a link to the file is made");
    put("link", "through");
    ok(holds("new", "through") && lstat("link", &st) == 0 && S_ISLNK(st.st_mode),
       "an output to a link replaces the file, not the link");
    unlink("link");
    char name[256] = {0};
    memset(name, 'x', 255);
    put(name, "long");
    ok(holds(name, "long"), "an output has a name of maximum length");
    unlink(name);
}

static void test_discard(void)
{
    struct output *out = output_open("new");
    output_write(out, "rubbish", 7);
    output_discard(out);
    output_discard(NULL);
    ok(holds("new", "through") && entries(".") == 1, "a discarded output changes nothing");
}

static void test_failures(void)
{
    ok(failed(output_open("none/file") ? 0 : -1, STATUS_CANT_CREATE, "none/file"),
       "an output in a missing folder is refused");
    mkdir("folder", 0777);
    ok(failed(output_open("folder") ? 0 : -1, STATUS_CANT_CREATE, "folder"),
       "an output to a folder is refused");
    rmdir("folder");
    struct output *out = output_open("/dev/full");
    ok(out && !output_can_rewrite(out) && !output_is_file(out),
       "an output to a device is written to directly");
    ok(failed(output_write(out, "x", 1), STATUS_IO, "byte 0: No space left"),
       "a full device is reported with the byte");
    output_discard(out);
    put("/dev/null", "gone");
    struct stat st;
    ok(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode), "/dev/null is not replaced");

    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 4096;
    char page[4096] = {0};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    out = output_open("limited");
    int first = output_write(out, page, 4000), second = output_write(out, page, 4000);
    setrlimit(RLIMIT_FSIZE, &old);
    ok(first == 0 && failed(second, STATUS_IO, "limited: cannot write at byte 4096"),
       "a file at the limit of its size is reported with the byte");
    output_discard(out);

    mkdir("before", 0777);
    int folder = open("before", O_RDONLY | O_DIRECTORY);
    out = output_open_in(folder, "before/file");
    output_write(out, "x", 1);
    rename("before", "after");
    ok(output_commit(out) == 0 && holds("after/file", "x") && entries("after") == 1,
       "output_open_in writes into a folder that is renamed meanwhile");
    symlink("file", "after/link");
    out = output_open_in(folder, "after/link");
    output_write(out, "y", 1);
    ok(output_commit(out) == 0 && holds("after/file", "y") && entries("after") == 2,
       "output_open_in follows a link, which stays");
    close(folder);
    ok(failed(output_open_in(folder, "after/file") ? 0 : -1, STATUS_CANT_CREATE,
              "after/file: cannot open its folder"),
       "output_open_in reports a folder that is not open");
    unlink("after/link"), unlink("after/file"), rmdir("after");

    out = output_open("doomed");
    mkdir("doomed", 0777);
    ok(failed(output_commit(out), STATUS_CANT_CREATE, "doomed: cannot rename"),
       "a commit fails if the destination has become a folder");
    rmdir("doomed");
    ok(entries(".") == 1, "failed outputs leave nothing behind");
}

static void put_plainly(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

// Runs `run` in a child and returns its wait status.
static int in_child(void (*run)(void))
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run();
        _exit(99);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

static void write_two(void)
{
    static struct output *a, *b; // static: reachable at exit(), for leak checkers
    a = output_open("new"), b = output_open("other");
    output_write(a, "half", 4);
    output_write(b, "half", 4);
    if (entries(".") != 3)
        _exit(98);
}

static void leave_by_exit(void)
{
    write_two();
    exit(0);
}

static int signal_sent;

static void leave_by_signal(void)
{
    write_two();
    raise(signal_sent);
}

static void leave_by_second_signal(void)
{
    tool.quiet = true;
    tool_catch_signals("one moment");
    write_two();
    raise(SIGTERM);
    if (!tool_signal_stop())
        _exit(97);
    raise(SIGTERM);
}

static void ignore_signal(void)
{
    signal(SIGINT, SIG_IGN);
    write_two();
    raise(SIGINT);
    exit(0);
}

static void save_on_request(void)
{
    tool_catch_signals("one moment");
    raise(SIGUSR1);
    _exit(tool_signal_save() && !tool_signal_save() && !tool_signal_stop() ? 0 : 1);
}

// What a child says on stderr is compared with `text`.
static bool said(const char *text)
{
    bool same = holds("said", text);
    unlink("said");
    return same;
}

static void listen_to_stderr(void)
{
    int fd = open("said", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static void stop_by_hangup(void)
{
    listen_to_stderr();
    tool_catch_signals("one moment");
    raise(SIGHUP);
    _exit(tool_signal_stop() ? 0 : 1);
}

static void hang_up_under_nohup(void)
{
    listen_to_stderr();
    signal(SIGHUP, SIG_IGN);
    tool_catch_signals("one moment");
    raise(SIGHUP);
    _exit(tool_signal_stop() ? 1 : 0);
}

static void speak_to_closed_pipe(void)
{
    int ends[2];
    if (pipe(ends) < 0)
        _exit(1);
    tool_catch_signals("one moment");
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    tool_warn("nobody hears this");
    _exit(0);
}

// Reads the last byte of a mapped file that has become shorter.
static void read_shorter_file(void)
{
    static struct mapping mapping;
    static struct output *out;
    listen_to_stderr();
    tool_catch_bus_errors();
    out = output_open("new");
    if (!out || file_map("lar\nge", &mapping) < 0 || truncate("lar\nge", 100) < 0)
        _exit(1);
    _exit(mapping.data[mapping.size - 1] ? 2 : 3);
}

static void write_to_closed_pipe(void)
{
    int ends[2];
    if (pipe(ends) < 0)
        _exit(1);
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    output_write(output_open("-"), "x", 1);
}

static void test_ends_of_the_process(void)
{
    put_plainly("new", "old");
    ok(in_child(leave_by_exit) == 0 && entries(".") == 1, "exit() removes unfinished outputs");
    static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM};
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        signal(signals[i], SIG_DFL);
        signal_sent = signals[i];
        int status = in_child(leave_by_signal);
        ok(WIFSIGNALED(status) && WTERMSIG(status) == signals[i] && entries(".") == 1,
           "%s removes unfinished outputs, and kills", strsignal(signals[i]));
    }
    int status = in_child(leave_by_second_signal);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && entries(".") == 1,
       "the first caught signal asks to stop; the second one kills, and removes outputs");
    ok(in_child(ignore_signal) == 0 && entries(".") == 1, "an ignored signal stays ignored");
    ok(in_child(save_on_request) == 0, "SIGUSR1 asks once to save");
    ok(in_child(stop_by_hangup) == 0 && said("io: one moment\n"),
       "SIGHUP asks to stop, and is answered at once");
    ok(in_child(hang_up_under_nohup) == 0 && said(""), "under nohup SIGHUP stays ignored");
    ok(in_child(speak_to_closed_pipe) == 0,
       "a program that saves outlives the reader of its messages");
    put_plainly("lar\nge", "");
    truncate("lar\nge", 100000);
    status = in_child(read_shorter_file);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_NO_INPUT &&
           said("io: lar?ge: the file has become shorter while it was read\n"),
       "a mapped file that becomes shorter ends the process with a message");
    unlink("lar\nge");
    ok(entries(".") == 1, "... and removes unfinished outputs");
    status = in_child(write_to_closed_pipe);
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE,
       "if the reader goes away, SIGPIPE ends the process even if it is ignored");
    ok(holds("new", "old"), "the old file is unchanged however the process ended");
    unlink("new");
}

static void test_reading(void)
{
    uint8_t *data = NULL;
    size_t size = 0;
    put("ten", "0123456789");
    put("empty", "");
    ok(holds("empty", "") && holds("/dev/null", ""), "file_read_all reads an empty file");
    ok(file_read_all("ten", &data, &size, 10) == 0 && size == 10,
       "file_read_all reads a file of the largest size");
    free(data);
    ok(failed(file_read_all("ten", &data, &size, 9), STATUS_DATA, "at most 9 bytes"),
       "file_read_all refuses a byte more");
    ok(failed(file_read_all("none", &data, &size, 9), STATUS_NO_INPUT, "none: cannot open"),
       "file_read_all refuses a missing file");
    ok(failed(file_read_all(".", &data, &size, 9), STATUS_NO_INPUT, "directory"),
       "file_read_all refuses a folder");
    ok(file_is_regular("ten") && !file_is_regular(".") && !file_is_regular("/dev/null") &&
           !file_is_regular("none"),
       "file_is_regular is false for a folder, a device and a missing file");

    static char large[300000];
    memset(large, 'y', sizeof large);
    struct output *out = output_open("large");
    output_write(out, large, sizeof large);
    output_commit(out);
    fflush(stdout);
    int ends[2], old = dup(STDIN_FILENO);
    if (pipe(ends) == 0 && fork() == 0) {
        _exit(write(ends[1], large, sizeof large) < 0);
    }
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    ok(file_read_all("-", &data, &size, 1 << 20) == 0 && size == sizeof large &&
           memcmp(data, large, size) == 0,
       "file_read_all reads standard input from a pipe");
    ok(!file_is_regular("-"), "file_is_regular is false if standard input is a pipe");
    free(data);
    dup2(old, STDIN_FILENO);
    wait(NULL);

    struct mapping mapping;
    ok(file_map("large", &mapping) == 0 && mapping.size == sizeof large &&
           memcmp(mapping.data, large, mapping.size) == 0,
       "file_map maps a file");
    file_unmap(&mapping);
    ok(file_map("empty", &mapping) == 0 && !mapping.data && mapping.size == 0,
       "file_map maps an empty file");
    file_unmap(&mapping);
    ok(failed(file_map("none", &mapping), STATUS_NO_INPUT, "none: cannot open"),
       "file_map refuses a missing file");
    ok(mkfifo("fifo", 0600) == 0 && failed(file_map("fifo", &mapping), STATUS_NO_INPUT, "regular"),
       "a FIFO is not mapped, nor waited for");
    unlink("fifo");
    ok(failed(file_map("/dev/null", &mapping), STATUS_NO_INPUT, "regular"),
       "file_map refuses a device");

    int fd = open("ten", O_RDONLY);
    char bytes[16];
    size_t got = 0;
    ok(fd_pread_full(fd, bytes, 16, 8, &got) == 0 && got == 2 && memcmp(bytes, "89", 2) == 0,
       "fd_pread_full reads to the end of the file");
    ok(fd_read_full(fd, bytes, 4, &got) == 0 && got == 4 && memcmp(bytes, "0123", 4) == 0,
       "fd_read_full reads in full");
    close(fd);
    ok(fd_read_full(-1, bytes, 4, &got) == -1, "fd_read_full refuses a bad descriptor");
}

static void test_scratch(void)
{
    struct stat st;
    setenv("TMPDIR", ".", 1);
    int fd = scratch_open(NULL);
    ok(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0600,
       "a temporary file has no name, and is for its owner alone");
    close(fd);
    ok(failed(setenv("TMPDIR", "none", 1) == 0 ? scratch_open(NULL) : 0, STATUS_CANT_CREATE,
              "in none"),
       "a temporary file in a missing folder is refused");
    unsetenv("TMPDIR");
}

static void test_folders(void)
{
    struct stat st;
    ok(folder_make("a/b//c/") == 0 && stat("a/b/c", &st) == 0 && S_ISDIR(st.st_mode),
       "folder_make makes a folder and its parents");
    ok(folder_make("a/b/c") == 0 && folder_make("/") == 0,
       "folder_make accepts a folder that exists");
    ok(failed(folder_make("ten/x"), STATUS_CANT_CREATE, "ten: expected a folder"),
       "folder_make refuses a path through a file");
    ok(failed(folder_make("/proc/none"), STATUS_CANT_CREATE, "/proc/none"),
       "folder_make reports a folder in which nothing can be made");
    char *paths[] = {path_join("a", "b"), path_join("a/", "b"), path_join("", "b")};
    ok(strcmp(paths[0], "a/b") == 0 && strcmp(paths[1], "a/b") == 0 && strcmp(paths[2], "b") == 0,
       "path_join puts one slash between");
    for (size_t i = 0; i < 3; i++)
        free(paths[i]);
}

int main(void)
{
    char folder[] = "/tmp/dit-io-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) < 0)
        return 1;
    test_ends_of_the_process(); // first: no handlers are set yet
    test_commit();
    test_discard();
    test_failures();
    test_reading();
    test_scratch();
    test_folders();
    for (const char *const *path =
             (const char *const[]){"new", "ten", "empty", "large", "a/b/c", "a/b", "a", NULL};
         *path; path++)
        remove(*path);
    ok(chdir("/") == 0 && rmdir(folder) == 0, "no temporary file is left in the end");
    return tap_done();
}
