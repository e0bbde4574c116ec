/* Prints the UUIDs of the GPUs that NVML shows, one a line: what a program in a container sees. Argument: the library. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments) {
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW) : NULL;
    if (!library) { puts("no NVML"); return 3; }
    int (*start)(void) = (int (*)(void))dlsym(library, "nvmlInit_v2");
    int (*how_many)(unsigned *) = (int (*)(unsigned *))dlsym(library, "nvmlDeviceGetCount_v2");
    int (*handle)(unsigned, void **) = (int (*)(unsigned, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    int (*uuid)(void *, char *, unsigned) = (int (*)(void *, char *, unsigned))dlsym(library, "nvmlDeviceGetUUID");
    unsigned devices = 0;
    if (start() || how_many(&devices)) return 4;
    for (unsigned at = 0; at < devices; at++) {
        void *device;
        char text[96];
        if (handle(at, &device) || uuid(device, text, sizeof text)) return 5;
        puts(text);
    }
    return 0;
}
