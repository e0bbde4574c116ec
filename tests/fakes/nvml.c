/* A stand-in for libnvidia-ml.so.1: answers from a state file that is read anew at each call, so that a test can change
 * a device under a running program. One line a device:
 *   uuid|name|mem_total|mem_used|util|power_mw|temp|pci|mig|numa|state|links|procs
 * state: ok or lost; links: indexes joined by NVLink, "1,2"; procs: "pid:bytes,pid:bytes"; "-" for none.
 * The file is named by FAKE_NVML_STATE, or lies beside the library as nvml.state. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15, UNKNOWN = 999 };
enum { MAX = 64 };

typedef struct {
    char uuid[96], name[96], pci[32], state[16], links[256], procs[2048];
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
        if (sscanf(line, "%95[^|]|%95[^|]|%llu|%llu|%u|%u|%u|%31[^|]|%u|%d|%15[^|]|%255[^|]|%2047[^|]", d->uuid, d->name,
                   &d->total, &d->used, &d->util, &d->power, &d->temp, d->pci, &d->mig, &d->numa, d->state, d->links,
                   d->procs) == 13)
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
    return code == LOST ? "GPU is lost" : code == NOT_SUPPORTED ? "Not Supported" : code == NOT_FOUND ? "Not Found" : "Error";
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
