/* Moves the clock of one program: preloaded (LD_PRELOAD), it adds an offset to the time of day.
 * The offset is a 64-bit number of nanoseconds in the file that FAKE_CLOCK names, read at every call, so that a test can
 * move the clock of a running program. Steady clocks are left alone, as the kernel leaves them when the time is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static volatile const int64_t *offset;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void load(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("FAKE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) offset = found;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *out) {
    if (!real) load();
    int code = real(id, out);
    if (code || !offset || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return code;
    int64_t moved = out->tv_nsec + *offset % SECOND;
    out->tv_sec += *offset / SECOND;
    if (moved < 0) { moved += SECOND; out->tv_sec--; }
    if (moved >= SECOND) { moved -= SECOND; out->tv_sec++; }
    out->tv_nsec = moved;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    if (!code && out) { out->tv_sec = now.tv_sec; out->tv_usec = now.tv_nsec / 1000; }
    return code;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
