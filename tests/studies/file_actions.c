/* Counts what a process does to the files of a folder, and lets one action fail or kill.

   Loaded by LD_PRELOAD, so that it also sees what libraries in C++ do. Nothing is counted
   before `arm` is called. Linux only: paths of open files come from /proc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[PATH_MAX];  /* empty: not armed */
static size_t prefix_length;
static atomic_long left, done;
static int failure, log_file = -1;

/* From now on, action number `action` on a file below `folder` fails with `error`; with
   error 0 the process is killed before it. Every action is written to the file `log`. */
void arm(const char *folder, long action, int error, int log) {
  atomic_store(&left, action);
  atomic_store(&done, 0);
  failure = error;
  log_file = log;
  prefix_length = strlen(folder);
  memcpy(prefix, folder, prefix_length + 1);
}

long count(void) { return atomic_load(&done); }

static int is_below(const char *path) {
  return strncmp(path, prefix, prefix_length) == 0;
}

/* Counts an action, and returns whether it is the one that shall fail. */
static int fails(const char *kind, const char *path) {
  static ssize_t (*write_log)(int, const void *, size_t);
  int before = errno;
  long mine = atomic_fetch_sub(&left, 1);
  atomic_fetch_add(&done, 1);
  if (log_file >= 0) {
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%s %s\n", kind, path + prefix_length);
    if (!write_log) write_log = dlsym(RTLD_NEXT, "write");
    if (write_log(log_file, line, size) < 0) log_file = -1;
  }
  errno = before;
  return mine == 1;
}

/* Ends the process, or returns what a call that fails does. */
static int stop(int error) {
  if (!failure) {
    kill(getpid(), SIGKILL);
    pause();
  }
  errno = error ? error : failure;
  return -1;
}

static int fails_fd(const char *kind, int fd) {
  if (!prefix_length) return 0;
  char link[64], path[PATH_MAX];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = before;
  if (size < 0) return 0;
  path[size] = 0;
  return is_below(path) && fails(kind, path);
}

static int fails_at(const char *kind, int folder, const char *name) {
  if (!prefix_length) return 0;
  char link[64], path[2 * PATH_MAX];
  int before = errno;
  path[0] = 0;
  if (name[0] != '/') {
    if (folder == AT_FDCWD)
      strcpy(link, "/proc/self/cwd");
    else
      snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, path, PATH_MAX);
    if (size < 0) size = 0;
    path[size++] = '/';
    path[size] = 0;
  }
  strncat(path, name, PATH_MAX - 1);
  errno = before;
  return is_below(path) && fails(kind, path);
}

#define REAL(result, name, ...)       \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = dlsym(RTLD_NEXT, #name);

/* Half of the bytes are written before a write fails. */
#define WRITES(result, name, parameters, arguments, half) \
  result name parameters {                                \
    static result(*real) parameters;                      \
    if (!real) real = dlsym(RTLD_NEXT, #name);            \
    if (!fails_fd(#name, fd)) return real arguments;      \
    if (real half < 0) errno = 0; /* what is written does not matter */ \
    return stop(0);                                       \
  }

WRITES(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size),
       (fd, data, size / 2))
WRITES(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at),
       (fd, data, size, at), (fd, data, size / 2, at))
WRITES(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at),
       (fd, data, size, at), (fd, data, size / 2, at))
WRITES(ssize_t, writev, (int fd, const struct iovec *data, int size), (fd, data, size),
       (fd, data, size / 2))
WRITES(ssize_t, pwritev, (int fd, const struct iovec *data, int size, off_t at),
       (fd, data, size, at), (fd, data, size / 2, at))
WRITES(ssize_t, sendfile, (int fd, int from, off_t *at, size_t size),
       (fd, from, at, size), (fd, from, at, size / 2))
WRITES(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t size),
       (fd, from, at, size), (fd, from, at, size / 2))

#define SYNCS(name)                               \
  int name(int fd) {                              \
    REAL(int, name, int)                          \
    return fails_fd(#name, fd) ? stop(EIO) : real(fd); \
  }

SYNCS(fsync)
SYNCS(fdatasync)

#define CHANGES(name, parameters, arguments, folder, path)               \
  int name parameters {                                                  \
    static int(*real) parameters;                                        \
    if (!real) real = dlsym(RTLD_NEXT, #name);                           \
    return fails_at(#name, folder, path) ? stop(0) : real arguments;     \
  }

CHANGES(rename, (const char *from, const char *to), (from, to), AT_FDCWD, to)
CHANGES(renameat, (int in, const char *from, int out, const char *to),
        (in, from, out, to), out, to)
CHANGES(renameat2,
        (int in, const char *from, int out, const char *to, unsigned flags),
        (in, from, out, to, flags), out, to)
CHANGES(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CHANGES(mkdirat, (int folder, const char *path, mode_t mode), (folder, path, mode),
        folder, path)

/* Deletions kill, but do not fail: a full disk lets files be deleted. */
#define DELETES(name, parameters, arguments, folder)                          \
  int name parameters {                                                       \
    static int(*real) parameters;                                             \
    if (!real) real = dlsym(RTLD_NEXT, #name);                                \
    return !failure && fails_at(#name, folder, path) ? stop(0) : real arguments; \
  }

DELETES(unlink, (const char *path), (path), AT_FDCWD)
DELETES(rmdir, (const char *path), (path), AT_FDCWD)
DELETES(unlinkat, (int folder, const char *path, int flags), (folder, path, flags),
        folder)

/* Opening a file to read it does not count. */
#define OPENS(name, parameters, arguments, types, folder)               \
  int name parameters {                                                 \
    static int (*real)(types, ...);                                     \
    if (!real) real = dlsym(RTLD_NEXT, #name);                          \
    mode_t mode = 0;                                                    \
    if (flags & (O_CREAT | O_TMPFILE)) {                                \
      va_list more;                                                     \
      va_start(more, flags);                                            \
      mode = va_arg(more, mode_t);                                      \
      va_end(more);                                                     \
    }                                                                   \
    int changes = (flags & O_ACCMODE) != O_RDONLY;                      \
    return changes && fails_at(#name, folder, path) ? stop(0) : real arguments; \
  }
#define PATH const char *, int
#define FOLDER int, const char *, int

OPENS(open, (const char *path, int flags, ...), (path, flags, mode), PATH, AT_FDCWD)
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode), PATH, AT_FDCWD)
OPENS(openat, (int folder, const char *path, int flags, ...),
      (folder, path, flags, mode), FOLDER, folder)
OPENS(openat64, (int folder, const char *path, int flags, ...),
      (folder, path, flags, mode), FOLDER, folder)
