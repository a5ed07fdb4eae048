// Preloaded into a program that uses CUDA, with a driver or an emulated one: appends every copy to
// and from the device to the file that RECORD names, as its direction, its length and its bytes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void record(char direction, const void *bytes, size_t length) {
    static FILE *file;
    pthread_mutex_lock(&lock);
    if (!file) {
        const char *name = getenv("RECORD");
        file = fopen(name ? name : "/dev/null", "wb");
        if (!file) abort();
    }
    const uint64_t size = length;
    fwrite(&direction, 1, 1, file);
    fwrite(&size, sizeof size, 1, file);
    fwrite(bytes, 1, length, file);
    fflush(file);
    pthread_mutex_unlock(&lock);
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t length, void *stream) {
    int (*real)(uint64_t, const void *, size_t, void *) = dlsym(RTLD_NEXT, "cuMemcpyHtoDAsync_v2");
    record('>', from, length);
    return real(to, from, length, stream);
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t length, void *stream) {
    int (*real)(void *, uint64_t, size_t, void *) = dlsym(RTLD_NEXT, "cuMemcpyDtoHAsync_v2");
    int (*wait)(void *) = dlsym(RTLD_NEXT, "cuStreamSynchronize");
    const int status = real(to, from, length, stream);
    // A copy to pinned memory may still be under way.
    const int waited = wait(stream);
    if (!status && !waited) record('<', to, length);
    return status ? status : waited;
}
