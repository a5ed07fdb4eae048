// A threadgroup of a kernel, executed thread by thread on one core: each thread is a fiber, which runs
// until it waits for others. In which order they get there is chosen, so that what depends on it shows.
#pragma once
#include <cstdint>

// The section of threadgroup memory, which is NaN when a threadgroup starts.
#define THREADGROUP_SECTION "threadgroup_memory"

namespace threads {

constexpr int SIMDGROUP = 32;

// The order in which simdgroups, their lanes, and the threadgroups of a grid come: as numbered,
// backwards, or, for any other number, shuffled by it.
enum Order : uint64_t { FORWARD = 0, BACKWARD = 1 };

// Runs `count` threads, a multiple of SIMDGROUP: each calls body(of, its number). What goes wrong
// ends the process with a sentence on stderr.
void run(int count, uint64_t order, void (*body)(void *of, int index), void *of);

// The permutation of 0..count that `order` stands for, in a caller's array.
void permute(int *out, int count, uint64_t order);

// For the threads: waits for all of the threadgroup ...
void barrier(int line);
// ... or for the lanes of the simdgroup, and returns what the one at `lane ^ mask` has. Memory is not
// ordered by this.
uint32_t exchange(uint32_t bits, int mask, int line);

[[noreturn]] void fail(const char *format, ...);

}  // namespace threads
