/* Shows what the sandboxes inside a process can read, and what the rest of the process holds.
 *
 * Loaded with LD_PRELOAD. Listens on the UNIX socket that TANDEM_MEMORY_SOCKET names. Whoever connects sends one byte:
 * 'g' asks for the linear memories of guests, 'r' for all other memory that can be written to. The answer is a sequence of
 * regions, each with its address and its length (64 bits each, native order) and its bytes, and then the end.
 *
 * It runs inside the process, since a process that forbids core dumps does not let others of the same user look at its memory.
 * A guest's memory is what can be read and written in front of a reservation of more than 1 GiB that cannot be touched, and
 * behind one: the address space of 32-bit WebAssembly is reserved whole, so that no offset leads out of it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MOST 65536
#define RESERVED (UINT64_C(1) << 30)
#define CHUNK (64 * 1024)
#define PAGE UINT64_C(4096)

struct region {
    uint64_t start, end;
    int writable, untouchable, special, guest;
};

static struct region regions[MOST];

static size_t read_maps(void) {
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps) return 0;
    char line[4352];
    size_t count = 0;
    while (count < MOST && fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        char mode[5] = "";
        if (sscanf(line, "%llx-%llx %4s", &start, &end, mode) != 3) continue;
        struct region *region = &regions[count++];
        region->start = start;
        region->end = end;
        region->writable = mode[0] == 'r' && mode[1] == 'w';
        region->untouchable = mode[0] == '-' && mode[1] == '-' && mode[2] == '-';
        region->special = strstr(line, "[v") != NULL || strstr(line, "/dev/") != NULL;
        region->guest = 0;
    }
    fclose(maps);
    for (size_t at = 1; at < count; at++) {
        if (!regions[at].untouchable || regions[at].end - regions[at].start < RESERVED) continue;
        size_t first = at;
        while (first > 0 && regions[first - 1].writable && regions[first - 1].end == regions[first].start) first--;
        if (first == 0 || first == at) continue;
        if (!regions[first - 1].untouchable || regions[first - 1].end != regions[first].start) continue;
        for (size_t inside = first; inside < at; inside++) regions[inside].guest = 1;
    }
    return count;
}

static int send_all(int to, const void *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(to, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0) return -1;
        bytes = (const char *)bytes + sent;
        length -= (size_t)sent;
    }
    return 0;
}

static int send_copy(int to, int copy, uint64_t start, uint64_t taken) {
    static char buffer[CHUNK];
    uint64_t head[2] = {start, taken};
    int failed = send_all(to, head, sizeof head) != 0 || lseek(copy, 0, SEEK_SET) != 0;
    while (!failed) {
        ssize_t length = read(copy, buffer, sizeof buffer);
        if (length <= 0) break;
        failed = send_all(to, buffer, (size_t)length) != 0;
    }
    close(copy);
    return failed ? -1 : 0;
}

/* By way of a file in memory: the kernel answers with an error where the memory went away in the meantime. What follows a page that
 * went away is a region of its own. */
static int send_range(int to, uint64_t at, uint64_t end) {
    while (at < end) {
        int copy = memfd_create("region", MFD_CLOEXEC);
        if (copy < 0) return -1;
        uint64_t start = at;
        while (at < end) {
            size_t length = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
            ssize_t written = write(copy, (const void *)(uintptr_t)at, length);
            if (written <= 0) break;
            at += (uint64_t)written;
        }
        if (start == at) close(copy);
        else if (send_copy(to, copy, start, at - start) != 0) return -1;
        if (at < end) at = (at | (PAGE - 1)) + 1;
    }
    return 0;
}

/* Pages that nobody ever touched hold nothing, and an allocator may have a great many of them: they are left out. */
static int send_resident(int to, uint64_t at, uint64_t end) {
    static unsigned char resident[CHUNK];
    uint64_t start = at;
    while (at < end) {
        uint64_t pages = (end - at) / PAGE < CHUNK ? (end - at) / PAGE : CHUNK;
        if (mincore((void *)(uintptr_t)at, pages * PAGE, resident) != 0) memset(resident, 1, pages);
        for (uint64_t page = 0; page < pages; page++, at += PAGE) {
            if (resident[page] & 1) continue;
            if (start < at && send_range(to, start, at) != 0) return -1;
            start = at + PAGE;
        }
    }
    return start < end ? send_range(to, start, end) : 0;
}

/* What this file keeps of the memory itself is not the process's, but the kernel may have joined it with what lies beside it. */
static int send_region(int to, const struct region *region) {
    uint64_t own = (uint64_t)(uintptr_t)regions, own_end = own + sizeof regions;
    if (region->guest) return send_range(to, region->start, region->end);
    if (own_end <= region->start || region->end <= own) return send_resident(to, region->start, region->end);
    if (region->start < own && send_resident(to, region->start, own & ~(uint64_t)(PAGE - 1)) != 0) return -1;
    own_end = (own_end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    return own_end < region->end ? send_resident(to, own_end, region->end) : 0;
}

static void *serve(void *argument) {
    int listener = (int)(intptr_t)argument;
    for (;;) {
        int asker = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (asker < 0) continue;
        char wanted = 0;
        if (read(asker, &wanted, 1) == 1) {
            size_t count = read_maps();
            for (size_t at = 0; at < count; at++) {
                const struct region *region = &regions[at];
                int asked = wanted == 'g' ? region->guest : region->writable && !region->guest && !region->special;
                if (asked && send_region(asker, region) != 0) break;
            }
        }
        close(asker);
    }
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("TANDEM_MEMORY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path) return;
    strcpy(address.sun_path, path);
    unlink(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4) != 0) return;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    pthread_create(&thread, NULL, serve, (void *)(intptr_t)listener);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
