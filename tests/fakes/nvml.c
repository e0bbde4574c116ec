/* A stand-in for libnvidia-ml.so.1: answers from a state file that is read anew at each call, so that a test can change
 * a device under a running program. One line a device:
 *   uuid|name|mem_total|mem_used|util|power_mw|temp|pci|mig|numa|state|links|procs|faults
 * state: ok or lost; links: indexes joined by NVLink, "1,2"; procs: "pid:bytes,pid:bytes:percent"; "-" for none. Of
 * what percent of the device's time each had tells "uses=1" among the faults; "uses=13" answers with that error.
 * faults may be left out, as may each of its parts, "xid=79:1,31:2;ecc=0;pending=0;failed=0;retired=0": how often each
 * Xid has happened, uncorrected ECC errors, row remaps pending and failed, retired pages pending. What is left out is
 * not supported.
 * The file is named by FAKE_NVML_STATE, or lies beside the library as nvml.state. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FUNCTION_NOT_FOUND = 13 };
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15, UNKNOWN = 999 };
enum { MAX = 64, XIDS = 256, XID_EVENT = 8 };

typedef struct {
    char uuid[96], name[96], pci[32], state[16], links[256], procs[2048], faults[512];
    unsigned long long total, used;
    unsigned util, power, temp, mig;
    int numa;
} Device;

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;
typedef struct {
    char legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} Pci;

static int count;
static Device devices[MAX];

static void load(void) {
    char path[4096];
    const char *given = getenv("FAKE_NVML_STATE");
    if (given) {
        snprintf(path, sizeof path, "%s", given);
    } else {
        Dl_info self;
        if (!dladdr((void *)load, &self)) { count = 0; return; }
        char own[4096];
        snprintf(own, sizeof own, "%s", self.dli_fname);
        snprintf(path, sizeof path, "%s/nvml.state", dirname(own));
    }
    FILE *file = fopen(path, "r");
    count = 0;
    if (!file) return;
    char line[4096];
    while (count < MAX && fgets(line, sizeof line, file)) {
        Device *d = &devices[count];
        line[strcspn(line, "\n")] = 0;
        d->faults[0] = 0;
        if (sscanf(line, "%95[^|]|%95[^|]|%llu|%llu|%u|%u|%u|%31[^|]|%u|%d|%15[^|]|%255[^|]|%2047[^|]|%511[^|]", d->uuid,
                   d->name, &d->total, &d->used, &d->util, &d->power, &d->temp, d->pci, &d->mig, &d->numa, d->state,
                   d->links, d->procs, d->faults) >= 13)
            count++;
    }
    fclose(file);
}

/* A handle is the device's position plus one, as a pointer. */
static int find(void *handle, Device **out) {
    load();
    long at = (long)handle - 1;
    if (at < 0 || at >= count) return INVALID;
    *out = &devices[at];
    return strcmp((*out)->state, "lost") == 0 ? LOST : OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == TIMEOUT ? "Timeout" : code == LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : code == NOT_FOUND ? "Not Found" : "Error";
}
int nvmlSystemGetDriverVersion(char *out, unsigned size) { snprintf(out, size, "550.00.fake"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { load(); *out = count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    load();
    if ((int)index >= count) return INVALID;
    *out = (void *)(long)(index + 1);
    return strcmp(devices[index].state, "lost") == 0 ? LOST : OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    load();
    for (int i = 0; i < count; i++)
        if (strcmp(devices[i].uuid, uuid) == 0) { *out = (void *)(long)(i + 1); return OK; }
    return NOT_FOUND;
}
#define ASK(handle) Device *d; int code = find(handle, &d); if (code) return code
int nvmlDeviceGetUUID(void *h, char *out, unsigned size) { ASK(h); snprintf(out, size, "%s", d->uuid); return OK; }
int nvmlDeviceGetName(void *h, char *out, unsigned size) { ASK(h); snprintf(out, size, "%s", d->name); return OK; }
int nvmlDeviceGetMemoryInfo(void *h, Memory *out) {
    ASK(h);
    out->total = d->total; out->used = d->used; out->free = d->total - d->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *h, Utilization *out) { ASK(h); out->gpu = d->util; out->memory = 0; return OK; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *out) { ASK(h); *out = d->power; return OK; }
int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *out) { (void)sensor; ASK(h); *out = d->temp; return OK; }
int nvmlDeviceGetPciInfo_v3(void *h, Pci *out) {
    ASK(h);
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", d->pci);
    return OK;
}
int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *pending) { ASK(h); *now = *pending = d->mig; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *size, Process *out) {
    ASK(h);
    unsigned found = 0;
    char copy[2048], *save = NULL;
    snprintf(copy, sizeof copy, "%s", d->procs);
    for (char *part = strtok_r(copy, ",", &save); part && *part != '-'; part = strtok_r(NULL, ",", &save)) {
        unsigned pid;
        unsigned long long used;
        if (sscanf(part, "%u:%llu", &pid, &used) != 2) continue;
        if (out && found < *size) { out[found].pid = pid; out[found].used = used; }
        found++;
    }
    int full = !out || found > *size;
    *size = found;
    return full && found ? TOO_SMALL : OK;
}
/* Graphics processes, NUMA node and MIG instances: one says NotSupported, the others are missing altogether, as on older
 * drivers. */
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *size, Process *out) {
    (void)h; (void)size; (void)out;
    return NOT_SUPPORTED;
}
int nvmlDeviceGetP2PStatus(void *one, void *other, int index, int *out) {
    (void)index;
    ASK(one);
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", d->links);
    *out = 4;
    for (char *part = strtok_r(copy, ",", &save); part && *part != '-'; part = strtok_r(NULL, ",", &save))
        if (atoi(part) == (int)((long)other - 1)) *out = 0;
    return OK;
}
int nvmlDeviceGetTopologyCommonAncestor(void *one, void *other, int *out) {
    Device *a, *b;
    int code = find(one, &a);
    if (code) return code;
    code = find(other, &b);
    if (code) return code;
    *out = a->numa == b->numa ? 30 : 50;
    return OK;
}

/* A part of the device's faults by its name; NULL where the device does not support it. */
static const char *part(Device *d, const char *name) {
    size_t size = strlen(name);
    for (const char *at = d->faults; at && *at; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL)
        if (strncmp(at, name, size) == 0 && at[size] == '=') return at + size + 1;
    return NULL;
}
static int number(Device *d, const char *name, unsigned long long *out) {
    const char *found = part(d, name);
    if (!found) return NOT_SUPPORTED;
    *out = strtoull(found, NULL, 10);
    return OK;
}
int nvmlDeviceGetTotalEccErrors(void *h, int error, int counter, unsigned long long *out) {
    (void)error; (void)counter;
    ASK(h);
    return number(d, "ecc", out);
}
int nvmlDeviceGetRemappedRows(void *h, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    ASK(h);
    unsigned long long waits = 0, fails = 0;
    code = number(d, "pending", &waits);
    if (code) return code;
    number(d, "failed", &fails);
    *corrected = *uncorrected = 0;
    *pending = waits;
    *failed = fails;
    return OK;
}
int nvmlDeviceGetRetiredPagesPendingStatus(void *h, unsigned *out) {
    ASK(h);
    unsigned long long waits = 0;
    code = number(d, "retired", &waits);
    *out = waits;
    return code;
}

typedef struct { unsigned pid; unsigned long long at; unsigned sm, memory, encoder, decoder; } Use;
int nvmlDeviceGetProcessUtilization(void *h, Use *out, unsigned *size, unsigned long long after) {
    ASK(h);
    unsigned long long told = 0;
    code = number(d, "uses", &told);
    if (code || told == FUNCTION_NOT_FOUND) return code ? code : FUNCTION_NOT_FOUND;
    unsigned found = 0;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char copy[2048], *save = NULL;
    snprintf(copy, sizeof copy, "%s", d->procs);
    for (char *one = strtok_r(copy, ",", &save); one && *one != '-'; one = strtok_r(NULL, ",", &save)) {
        unsigned pid, percent;
        unsigned long long used;
        if (sscanf(one, "%u:%llu:%u", &pid, &used, &percent) != 3) continue;
        if (out && found < *size) {
            memset(&out[found], 0, sizeof *out);
            out[found].pid = pid;
            out[found].sm = percent;
            out[found].at = now.tv_sec * 1000000ULL + now.tv_nsec / 1000;
            if (out[found].at <= after) return NOT_FOUND;
        }
        found++;
    }
    int full = !out || found > *size;
    *size = found;
    return !found ? NOT_FOUND : full ? TOO_SMALL : OK;
}

/* Xid events: told are those that happened after a device was registered, one a call. */
typedef struct { void *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } Event;
static int registered[MAX];
static unsigned told[MAX][XIDS];

/* The first Xid of a device that happened more often than it was told; with `all`, every one counts as told. */
static int untold(int at, int all) {
    char copy[512], *save = NULL;
    const char *found = part(&devices[at], "xid");
    snprintf(copy, sizeof copy, "%s", found ? found : "");
    copy[strcspn(copy, ";")] = 0;
    for (char *one = strtok_r(copy, ",", &save); one; one = strtok_r(NULL, ",", &save)) {
        unsigned xid, times;
        if (sscanf(one, "%u:%u", &xid, &times) != 2 || xid >= XIDS) continue;
        if (all) told[at][xid] = times;
        else if (told[at][xid] < times) return (int)xid;
    }
    return -1;
}
int nvmlEventSetCreate(void **out) {
    memset(registered, 0, sizeof registered);
    *out = registered;
    return OK;
}
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceRegisterEvents(void *h, unsigned long long types, void *set) {
    (void)set;
    ASK(h);
    if (!part(d, "xid") || types != XID_EVENT) return NOT_SUPPORTED;
    registered[(long)h - 1] = 1;
    memset(told[(long)h - 1], 0, sizeof told[0]);
    untold((long)h - 1, 1);
    return OK;
}
int nvmlEventSetWait_v2(void *set, Event *out, unsigned timeout) {
    (void)set; (void)timeout;
    load();
    for (int at = 0; at < count; at++) {
        int xid = registered[at] ? untold(at, 0) : -1;
        if (xid < 0) continue;
        told[at][xid]++;
        memset(out, 0, sizeof *out);
        out->device = (void *)(long)(at + 1);
        out->type = XID_EVENT;
        out->data = xid;
        return OK;
    }
    return TIMEOUT;
}
