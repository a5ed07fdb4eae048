// Runs launches of the kernels that it is linked with. What it reads from stdin and writes to stdout
// is made of numbers of 8 bytes and of blobs, each a length and so many bytes:
//
//   launch: blob (the kernel's name), grid, threads, order, blob (buffer 0), blob (buffer 1),
//           count of memories, for each a blob,
//           count of buffers, for each its index and the number of its memory
//   answer: the bytes of all memories, one after the other
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "threadgroup.h"

namespace {

using threads::fail;

constexpr size_t ALIGNMENT = 256;  // as a MTLBuffer's

void read(void *to, size_t size) {
    if (size > 0 && std::fread(to, size, 1, stdin) != 1) fail("the launch ends too early");
}

uint64_t number() {
    uint64_t value;
    read(&value, sizeof value);
    return value;
}

// A blob in memory of exactly its size, so that the address sanitizer sees what is beyond.
struct Memory {
    size_t size;
    void *data;

    explicit Memory(size_t size) : size(size) {
        if (posix_memalign(&data, ALIGNMENT, size) != 0) fail("no memory for %zu bytes", size);
        read(data, size);
    }
    Memory(Memory &&other) : size(other.size), data(other.data) { other.data = nullptr; }
    ~Memory() { std::free(data); }
};

// Every kernel has these arguments: ARGUMENTS in kernels/metal/call.metal.
using Kernel = void(const void *, const void *, void *, void *, void *, void *, void *, void *,
                    void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                    void *, void *, void *, unsigned, unsigned, unsigned);
constexpr int BUFFERS = 21;

struct Launch {
    Kernel *kernel;
    const void *first, *second;
    void *buffers[BUFFERS] = {};  // what is not there is null
    unsigned group, size;

    static void thread(void *of, int index) {
        const Launch &launch = *static_cast<const Launch *>(of);
        void *const *b = launch.buffers;
        launch.kernel(launch.first, launch.second, b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9],
                      b[10], b[11], b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19], b[20],
                      launch.group, index, launch.size);
    }
};

void run(uint64_t length_of_name) {
    std::string name(length_of_name, 0);
    read(&name[0], name.size());
    Launch launch;
    launch.kernel = reinterpret_cast<Kernel *>(dlsym(RTLD_DEFAULT, name.c_str()));
    if (launch.kernel == nullptr) fail("there is no kernel %s", name.c_str());
    const uint64_t grid = number();
    launch.size = number();
    const uint64_t order = number();
    const Memory first(number()), second(number());
    launch.first = first.data, launch.second = second.data;
    std::vector<Memory> memories;
    for (uint64_t rest = number(); rest > 0; --rest) memories.emplace_back(number());
    for (uint64_t rest = number(); rest > 0; --rest) {
        const uint64_t index = number(), memory = number();
        if (index >= BUFFERS || memory >= memories.size()) fail("no buffer %zu", size_t(index));
        launch.buffers[index] = memories[memory].data;
    }
    std::vector<int> groups(grid);
    threads::permute(groups.data(), grid, order);
    for (int group : groups) {
        launch.group = group;
        threads::run(launch.size, order, Launch::thread, &launch);
    }
    for (const Memory &memory : memories) {
        if (memory.size > 0) std::fwrite(memory.data, memory.size, 1, stdout);
    }
    std::fflush(stdout);
}

}  // namespace

int main() {
    uint64_t length;
    while (std::fread(&length, sizeof length, 1, stdin) == 1) run(length);
}
