/*
 * The referee of power-loss tests, loaded with LD_PRELOAD.
 *
 *   TANDEM_SHIM_DIR     what happens to files below this folder is written down
 *   TANDEM_SHIM_LOG     to this file, which is not below it; it is appended to
 *   TANDEM_SHIM_FAIL    "CALL:N:ERROR[:PART]": the N-th CALL (write, pwrite, fsync, fdatasync, ftruncate, open, rename) on a
 *                       file whose path contains PART fails with ERROR (EIO, ENOSPC, EROFS); "N+" fails from there on
 *   TANDEM_SHIM_IGNORE  "CALL[:PART]": the log says that a CALL (fsync, fdatasync) on a file whose path contains PART did nothing
 *                       (a planted fault)
 *   TANDEM_SHIM_TALK    so many bytes of whatever one call sends or receives through a socket are written down; without it
 *                       64 of what is sent, and nothing of what is received
 *
 * A change and its line in the log are made under one lock, so that the order of the log is the order of the changes. A sync
 * has two lines, at its beginning and at its end: it covers what was written before it began, once it has ended well.
 * sync_file_range has a line and syncs nothing. Writes to a file named "ack-marker" and bytes sent to sockets are
 * acknowledgements. What is sent has a line before it leaves, and with TANDEM_SHIM_TALK another one that says how much of it
 * left (in the place of the inode); what is received has a line when it is there, and the end of a socket has one too.
 *
 * A line, little-endian, without padding:
 *   u32 magic "TSHM" | u64 number | u8 kind | u8 flags | u16 length of path | u16 length of second path
 *   | i32 errno, 0: it worked | u64 inode | u64 offset or length | u32 length of data | path | second path | data
 *
 * Not seen: mmap, io_uring, and programs that call the kernel without libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, RENAME, UNLINK, MAKE_DIR, REMOVE_DIR, SYNC_BEGIN, SYNC_END, SYNC_RANGE, ACK, SEND, RECEIVE, CLOSE, SEND_END };
enum flag { IS_DIR = 1, DATA_ONLY = 2, IGNORED = 4 };

#define FDS 65536
/* Pieces of one call that are written down. */
#define PIECES 64
/* Bytes of a call that are written down; see TANDEM_SHIM_TALK. */
static size_t talk = 64;
static int talks;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char dir[PATH_MAX];
static size_t dir_len;
static int log_fd = -1;
static uint64_t number;
/* 0: not watched. Otherwise 1 + inode. */
static uint64_t watched[FDS];
static unsigned char is_ack[FDS];

static char fail_call[32], fail_part[256];
static long fail_at, fail_seen;
static int fail_on, fail_errno;
static char ignore_call[32], ignore_part[256];

#define REAL(ret, name, ...) \
    static ret (*real_##name)(__VA_ARGS__); \
    static void find_##name(void) { if (!real_##name) real_##name = (ret (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name); }

REAL(int, open, const char *, int, ...)
REAL(int, openat, int, const char *, int, ...)
REAL(int, close, int)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
REAL(int, ftruncate, int, off_t)
REAL(int, rename, const char *, const char *)
REAL(int, unlink, const char *)
REAL(int, unlinkat, int, const char *, int)
REAL(int, rmdir, const char *)
REAL(int, mkdir, const char *, mode_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, sync_file_range, int, off_t, off_t, unsigned int)
REAL(ssize_t, send, int, const void *, size_t, int)
REAL(ssize_t, sendto, int, const void *, size_t, int, const struct sockaddr *, socklen_t)
REAL(ssize_t, sendmsg, int, const struct msghdr *, int)
REAL(ssize_t, read, int, void *, size_t)
REAL(ssize_t, readv, int, const struct iovec *, int)
REAL(ssize_t, recv, int, void *, size_t, int)
REAL(ssize_t, recvfrom, int, void *, size_t, int, struct sockaddr *, socklen_t *)
REAL(ssize_t, recvmsg, int, struct msghdr *, int)

static void start(void) {
    find_open(); find_openat(); find_close(); find_write(); find_writev(); find_pwrite(); find_ftruncate();
    find_rename(); find_unlink(); find_unlinkat(); find_rmdir(); find_mkdir(); find_fsync(); find_fdatasync();
    find_sync_file_range(); find_send(); find_sendto(); find_sendmsg();
    find_read(); find_readv(); find_recv(); find_recvfrom(); find_recvmsg();
    const char *folder = getenv("TANDEM_SHIM_DIR"), *log = getenv("TANDEM_SHIM_LOG");
    if (folder && realpath(folder, dir)) dir_len = strlen(dir);
    if (log && dir_len) {
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        /* Out of the way of numbers that the program may count on. */
        int high = fcntl(log_fd, F_DUPFD_CLOEXEC, 1000);
        if (high >= 0) { syscall(SYS_close, log_fd); log_fd = high; }
    }
    const char *fail = getenv("TANDEM_SHIM_FAIL");
    if (fail) {
        char error[16] = "", at[16] = "";
        sscanf(fail, "%31[^:]:%15[^:]:%15[^:]:%255s", fail_call, at, error, fail_part);
        fail_at = strtol(at, NULL, 10);
        fail_on = strchr(at, '+') != NULL;
        fail_errno = !strcmp(error, "ENOSPC") ? ENOSPC : !strcmp(error, "EROFS") ? EROFS : EIO;
    }
    const char *ignore = getenv("TANDEM_SHIM_IGNORE");
    if (ignore) sscanf(ignore, "%31[^:]:%255s", ignore_call, ignore_part);
    const char *size = getenv("TANDEM_SHIM_TALK");
    if (size && dir_len) { talk = (size_t)strtoul(size, NULL, 10); talks = 1; }
}

static void ready(void) { pthread_once(&once, start); }

/* Writes a line. The lock is held. */
static void line(enum kind kind, int flags, int error, uint64_t inode, uint64_t offset, const char *path,
                 const char *second, const struct iovec *data, int pieces, size_t bytes) {
    if (log_fd < 0) return;
    unsigned char head[38];
    uint16_t path_len = path ? (uint16_t)strlen(path) : 0, second_len = second ? (uint16_t)strlen(second) : 0;
    uint32_t len = (uint32_t)bytes;
    int32_t err = error;
    uint64_t at = ++number;
    memcpy(head, "TSHM", 4);
    memcpy(head + 4, &at, 8);
    head[12] = (unsigned char)kind;
    head[13] = (unsigned char)flags;
    memcpy(head + 14, &path_len, 2);
    memcpy(head + 16, &second_len, 2);
    memcpy(head + 18, &err, 4);
    memcpy(head + 22, &inode, 8);
    memcpy(head + 30, &offset, 8);
    struct iovec out[PIECES + 4];
    int n = 0;
    out[n++] = (struct iovec){ head, sizeof head };
    out[n++] = (struct iovec){ &len, 4 };
    if (path_len) out[n++] = (struct iovec){ (void *)path, path_len };
    if (second_len) out[n++] = (struct iovec){ (void *)second, second_len };
    size_t left = bytes;
    for (int i = 0; i < pieces && left && n < PIECES + 4; i++) {
        size_t take = data[i].iov_len < left ? data[i].iov_len : left;
        if (take) out[n++] = (struct iovec){ data[i].iov_base, take };
        left -= take;
    }
    /* A short write would garble the log: go on where it stopped. */
    int from = 0;
    while (from < n) {
        ssize_t wrote = syscall(SYS_writev, log_fd, out + from, n - from);
        if (wrote < 0) { if (errno == EINTR) continue; abort(); }
        while (from < n && (size_t)wrote >= out[from].iov_len) wrote -= (ssize_t)out[from++].iov_len;
        if (from < n && wrote > 0) {
            out[from].iov_base = (char *)out[from].iov_base + wrote;
            out[from].iov_len -= (size_t)wrote;
        }
    }
}

static int below(const char *path) {
    return dir_len && path && !strncmp(path, dir, dir_len) && (path[dir_len] == '/' || !path[dir_len]);
}

static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The absolute path of a descriptor. */
static int path_of(int fd, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, into, PATH_MAX - 1);
    if (len < 0) return 0;
    into[len] = 0;
    return 1;
}

/* The absolute path of a name beside a descriptor. */
static int path_at(int at, const char *name, char *into) {
    if (name[0] == '/') { snprintf(into, PATH_MAX, "%s", name); return 1; }
    char folder[PATH_MAX];
    if (at == AT_FDCWD) { if (!getcwd(folder, sizeof folder)) return 0; }
    else if (!path_of(at, folder)) return 0;
    return snprintf(into, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

static int is_watched(int fd) { return fd >= 0 && fd < FDS && watched[fd]; }

/* Whether this call is to fail. The lock is held. */
static int fails(const char *call, int fd, const char *path) {
    if (!fail_at || strcmp(call, fail_call)) return 0;
    char own[PATH_MAX];
    if (!path) { if (!path_of(fd, own)) return 0; path = own; }
    if (fail_part[0] && !strstr(path, fail_part)) return 0;
    fail_seen++;
    if (fail_seen == fail_at || (fail_on && fail_seen > fail_at)) { errno = fail_errno; return 1; }
    return 0;
}

static int opened(int fd, int flags, int existed) {
    if (fd < 0 || fd >= FDS) return fd;
    watched[fd] = 0;
    is_ack[fd] = 0;
    char path[PATH_MAX];
    if (!dir_len || !path_of(fd, path) || !below(path)) return fd;
    struct stat stat;
    if (fstat(fd, &stat)) return fd;
    if (!strcmp(base(path), "ack-marker")) { is_ack[fd] = 1; return fd; }
    watched[fd] = 1 + (uint64_t)stat.st_ino;
    if (S_ISDIR(stat.st_mode)) return fd;
    if ((flags & O_CREAT) && !existed) line(CREATE, 0, 0, stat.st_ino, 0, path, NULL, NULL, 0, 0);
    else if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
        line(TRUNCATE, 0, 0, stat.st_ino, 0, path, NULL, NULL, 0, 0);
    return fd;
}

static int do_open(int at, const char *name, int flags, mode_t mode) {
    ready();
    char path[PATH_MAX];
    int ours = dir_len && path_at(at, name, path) && below(path);
    if (!ours) {
        int fd = real_openat(at, name, flags, mode);
        if (fd >= 0 && fd < FDS) { watched[fd] = 0; is_ack[fd] = 0; }
        return fd;
    }
    pthread_mutex_lock(&lock);
    int fd = -1;
    if (!fails("open", -1, path)) {
        struct stat stat;
        int existed = !fstatat(at, name, &stat, 0);
        fd = opened(real_openat(at, name, flags, mode), flags, existed);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags, last) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, last); mode = va_arg(list, mode_t); va_end(list); }

int open(const char *name, int flags, ...) { MODE(flags, flags) return do_open(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags, flags) return do_open(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int at, const char *name, int flags, ...) { MODE(flags, flags) return do_open(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE(flags, flags) return do_open(at, name, flags | O_LARGEFILE, mode); }

static int is_socket(int fd) {
    struct stat stat;
    return dir_len && !fstat(fd, &stat) && S_ISSOCK(stat.st_mode);
}

int close(int fd) {
    ready();
    /* Before it is closed: its number may be given to another one at once. */
    if (talks && !is_watched(fd) && is_socket(fd)) {
        pthread_mutex_lock(&lock);
        line(CLOSE, 0, 0, 0, (uint64_t)fd, NULL, NULL, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    if (fd >= 0 && fd < FDS) { watched[fd] = 0; is_ack[fd] = 0; }
    return real_close(fd);
}

static ssize_t vectored(int fd, const struct iovec *data, int pieces, off_t at, int positioned) {
    size_t total = 0;
    for (int i = 0; i < pieces; i++) total += data[i].iov_len;
    pthread_mutex_lock(&lock);
    ssize_t wrote = -1;
    if (!fails(positioned ? "pwrite" : "write", fd, NULL)) {
        if (is_ack[fd]) {
            wrote = real_writev(fd, data, pieces);
            if (wrote > 0) line(ACK, 0, 0, 0, 0, NULL, NULL, data, pieces, (size_t)wrote);
        } else {
            if (!positioned) {
                struct stat stat;
                int append = fcntl(fd, F_GETFL) & O_APPEND;
                at = append && !fstat(fd, &stat) ? stat.st_size : lseek(fd, 0, SEEK_CUR);
                wrote = real_writev(fd, data, pieces);
            } else {
                wrote = real_pwrite(fd, data[0].iov_base, data[0].iov_len, at);
            }
            if (wrote > 0)
                line(WRITE, 0, 0, watched[fd] - 1, (uint64_t)at, NULL, NULL, data, pieces, (size_t)wrote);
        }
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return wrote;
}

/* Bytes that leave are written down before they do: what they acknowledge has to be synced by then. */
static int sending(int fd, const struct iovec *data, int pieces) {
    if (!is_socket(fd)) return 0;
    if (pieces > PIECES) pieces = PIECES;
    size_t total = 0;
    for (int i = 0; i < pieces && total < talk; i++) total += data[i].iov_len;
    pthread_mutex_lock(&lock);
    line(SEND, 0, 0, 0, (uint64_t)fd, NULL, NULL, data, pieces, total < talk ? total : talk);
    pthread_mutex_unlock(&lock);
    return 1;
}

/* How much of it left. */
static ssize_t sent(int told, int fd, ssize_t count) {
    if (!told || !talks) return count;
    int error = errno;
    pthread_mutex_lock(&lock);
    line(SEND_END, 0, count < 0 ? error : 0, count < 0 ? 0 : (uint64_t)count, (uint64_t)fd, NULL, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return count;
}

/* Bytes that came. */
static ssize_t received(int fd, const struct iovec *data, int pieces, ssize_t count) {
    if (!talks || count <= 0 || !is_socket(fd)) return count;
    int error = errno;
    size_t total = 0;
    for (int i = 0; i < pieces && i < PIECES; i++) total += data[i].iov_len;
    if (total > (size_t)count) total = (size_t)count;
    if (total > talk) total = talk;
    pthread_mutex_lock(&lock);
    line(RECEIVE, 0, 0, 0, (uint64_t)fd, NULL, NULL, data, pieces, total);
    pthread_mutex_unlock(&lock);
    errno = error;
    return count;
}

ssize_t write(int fd, const void *data, size_t len) {
    ready();
    struct iovec one = { (void *)data, len };
    if (fd >= 0 && fd < FDS && (watched[fd] || is_ack[fd])) return vectored(fd, &one, 1, 0, 0);
    int told = sending(fd, &one, 1);
    return sent(told, fd, real_write(fd, data, len));
}

ssize_t writev(int fd, const struct iovec *data, int pieces) {
    ready();
    if (fd >= 0 && fd < FDS && (watched[fd] || is_ack[fd])) return vectored(fd, data, pieces > PIECES ? PIECES : pieces, 0, 0);
    int told = sending(fd, data, pieces);
    return sent(told, fd, real_writev(fd, data, pieces));
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    ready();
    struct iovec one = { (void *)data, len };
    if (is_watched(fd)) return vectored(fd, &one, 1, at, 1);
    return real_pwrite(fd, data, len, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return pwrite(fd, data, len, at); }

ssize_t send(int fd, const void *data, size_t len, int flags) {
    ready();
    struct iovec one = { (void *)data, len };
    int told = sending(fd, &one, 1);
    return sent(told, fd, real_send(fd, data, len, flags));
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to, socklen_t to_len) {
    ready();
    struct iovec one = { (void *)data, len };
    int told = sending(fd, &one, 1);
    return sent(told, fd, real_sendto(fd, data, len, flags, to, to_len));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    ready();
    int told = sending(fd, message->msg_iov, (int)message->msg_iovlen);
    return sent(told, fd, real_sendmsg(fd, message, flags));
}

ssize_t read(int fd, void *data, size_t len) {
    ready();
    struct iovec one = { data, len };
    return received(fd, &one, 1, real_read(fd, data, len));
}

ssize_t readv(int fd, const struct iovec *data, int pieces) {
    ready();
    return received(fd, data, pieces, real_readv(fd, data, pieces));
}

ssize_t recv(int fd, void *data, size_t len, int flags) {
    ready();
    struct iovec one = { data, len };
    ssize_t count = real_recv(fd, data, len, flags);
    return flags & MSG_PEEK ? count : received(fd, &one, 1, count);
}

ssize_t recvfrom(int fd, void *data, size_t len, int flags, struct sockaddr *from, socklen_t *from_len) {
    ready();
    struct iovec one = { data, len };
    return received(fd, &one, 1, real_recvfrom(fd, data, len, flags, from, from_len));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    ready();
    ssize_t count = real_recvmsg(fd, message, flags);
    return received(fd, message->msg_iov, (int)message->msg_iovlen, count);
}

int ftruncate(int fd, off_t len) {
    ready();
    if (!is_watched(fd)) return real_ftruncate(fd, len);
    pthread_mutex_lock(&lock);
    int result = fails("ftruncate", fd, NULL) ? -1 : real_ftruncate(fd, len);
    int error = errno;
    if (!result) line(TRUNCATE, 0, 0, watched[fd] - 1, (uint64_t)len, NULL, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
int ftruncate64(int fd, off64_t len) { return ftruncate(fd, len); }

int rename(const char *from, const char *to) {
    ready();
    char old[PATH_MAX], new[PATH_MAX];
    if (!dir_len || !path_at(AT_FDCWD, from, old) || !path_at(AT_FDCWD, to, new) || !below(old)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int result = fails("rename", -1, old) ? -1 : real_rename(from, to);
    int error = errno;
    if (!result) line(RENAME, 0, 0, 0, 0, old, new, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int removed(int at, const char *name, int flags) {
    char path[PATH_MAX];
    if (!dir_len || !path_at(at, name, path) || !below(path)) return real_unlinkat(at, name, flags);
    pthread_mutex_lock(&lock);
    int result = real_unlinkat(at, name, flags);
    int error = errno;
    if (!result) line(flags & AT_REMOVEDIR ? REMOVE_DIR : UNLINK, 0, 0, 0, 0, path, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *name) { ready(); return removed(AT_FDCWD, name, 0); }
int unlinkat(int at, const char *name, int flags) { ready(); return removed(at, name, flags); }
int rmdir(const char *name) { ready(); return removed(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdir(const char *name, mode_t mode) {
    ready();
    char path[PATH_MAX];
    if (!dir_len || !path_at(AT_FDCWD, name, path) || !below(path)) return real_mkdir(name, mode);
    pthread_mutex_lock(&lock);
    int result = real_mkdir(name, mode);
    int error = errno;
    if (!result) line(MAKE_DIR, IS_DIR, 0, 0, 0, path, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int synced(int fd, const char *call, int (*real)(int), int flags) {
    if (!is_watched(fd)) return real(fd);
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real(fd);
    uint64_t inode = watched[fd] - 1;
    struct stat stat;
    if (!fstat(fd, &stat) && S_ISDIR(stat.st_mode)) flags |= IS_DIR;
    if (!strcmp(call, ignore_call) && strstr(path, ignore_part)) flags |= IGNORED;
    pthread_mutex_lock(&lock);
    line(SYNC_BEGIN, flags, 0, inode, 0, path, NULL, NULL, 0, 0);
    uint64_t begun = number;
    int fail = fails(call, fd, path);
    pthread_mutex_unlock(&lock);
    int result = fail ? -1 : real(fd);
    int error = fail ? fail_errno : errno;
    pthread_mutex_lock(&lock);
    line(SYNC_END, flags, result ? error : 0, inode, begun, path, NULL, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd) { ready(); return synced(fd, "fsync", real_fsync, 0); }
int fdatasync(int fd) { ready(); return synced(fd, "fdatasync", real_fdatasync, DATA_ONLY); }

int sync_file_range(int fd, off_t from, off_t len, unsigned int flags) {
    ready();
    if (is_watched(fd)) {
        pthread_mutex_lock(&lock);
        line(SYNC_RANGE, 0, 0, watched[fd] - 1, (uint64_t)from, NULL, NULL, NULL, 0, 0);
        pthread_mutex_unlock(&lock);
    }
    return real_sync_file_range(fd, from, len, flags);
}
