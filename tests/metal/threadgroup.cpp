// Compiled without the thread sanitizer, which is told here what orders memory accesses: the start of
// a threadgroup, its barriers and its end.
#include "threadgroup.h"

#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#ifdef UNDER_TSAN
extern "C" {
void *__tsan_get_current_fiber();
void *__tsan_create_fiber(unsigned);
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
}
#else
static void *__tsan_get_current_fiber() { return nullptr; }
static void *__tsan_create_fiber(unsigned) { return nullptr; }
static void __tsan_switch_to_fiber(void *, unsigned) {}
static void __tsan_acquire(void *) {}
static void __tsan_release(void *) {}
#endif

// Saves where one stack is and goes on where the other was.
#if defined(__x86_64__)
extern "C" void switch_stack(void **from, void *to);
asm(R"(
.text
.type switch_stack,@function
switch_stack:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
static void *new_stack(char *end, void (*entry)()) {
    void **top = reinterpret_cast<void **>(end) - 2;  // a call leaves rsp 8 off a multiple of 16
    *top = reinterpret_cast<void *>(entry);
    return top - 6;  // the registers that the first switch pops
}
#elif defined(__aarch64__)
extern "C" void switch_stack(void **from, void *to);
asm(R"(
.text
.type switch_stack,@function
switch_stack:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
static void *new_stack(char *end, void (*entry)()) {
    void **top = reinterpret_cast<void **>(end) - 20;
    top[11] = reinterpret_cast<void *>(entry);  // x30
    return top;
}
#else
#error "switch_stack is written for x86-64 and aarch64"
#endif

extern char of_section[] __asm__("__start_" THREADGROUP_SECTION);
extern char end_of_section[] __asm__("__stop_" THREADGROUP_SECTION);

namespace threads {

namespace {

constexpr size_t STACK = 256 << 10;

enum class State { Ready, AtExchange, AtBarrier, Done };

struct Thread {
    char *memory;
    void *stack;
    void *fiber;  // the sanitizer's
    State state;
    int line;  // where it waits
    uint32_t bits;
    int mask;
};

std::vector<Thread> threads;  // as many as were ever needed
int count, current;
void *main_stack, *main_fiber;
void (*body)(void *, int);
void *of;
char start, met, end;  // stand for what orders memory accesses

void wait(State state, int line) {
    Thread &self = threads[current];
    self.state = state;
    self.line = line;
    __tsan_switch_to_fiber(main_fiber, 1);
    switch_stack(&self.stack, main_stack);
}

void enter() {
    __tsan_acquire(&start);
    body(of, current);
    __tsan_release(&end);
    wait(State::Done, 0);
}

void resume(int index) {
    current = index;
    __tsan_switch_to_fiber(threads[index].fiber, 1);
    switch_stack(&main_stack, threads[index].stack);
}

void reset(int index) {
    if (index == int(threads.size())) {
        const auto access = PROT_READ | PROT_WRITE;
        void *memory = mmap(nullptr, STACK, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("no memory for the stack of thread %d", index);
        threads.push_back({static_cast<char *>(memory), nullptr, __tsan_create_fiber(0), {}, 0, 0, 0});
    }
    Thread &thread = threads[index];
    thread.stack = new_stack(thread.memory + STACK, enter);
    thread.state = State::Ready;
}

// Goes on where all lanes have met; false where they have not.
bool try_exchange(Thread *lanes, int simdgroup) {
    int waiting = 0;
    for (int i = 0; i < SIMDGROUP; ++i) waiting += lanes[i].state == State::AtExchange;
    if (waiting == 0) return false;
    for (int i = 0; i < SIMDGROUP; ++i) {
        if (lanes[i].state != State::AtExchange) {
            fail("%d lanes of simdgroup %d shuffle (line %d), lane %d does not", waiting, simdgroup,
                 lanes[0].line, i);
        }
        if (lanes[i].line != lanes[0].line || lanes[i].mask != lanes[0].mask) {
            fail("lanes of simdgroup %d shuffle at lines %d and %d", simdgroup, lanes[0].line,
                 lanes[i].line);
        }
    }
    const int mask = lanes[0].mask;
    if (mask < 0 || mask >= SIMDGROUP) fail("shuffle by %d (line %d)", mask, lanes[0].line);
    uint32_t bits[SIMDGROUP];
    for (int i = 0; i < SIMDGROUP; ++i) bits[i] = lanes[i].bits;
    for (int i = 0; i < SIMDGROUP; ++i) {
        lanes[i].bits = bits[i ^ mask];
        lanes[i].state = State::Ready;
    }
    return true;
}

// A simdgroup runs until all its lanes are at a barrier or done.
void run_simdgroup(int simdgroup, uint64_t order) {
    int lanes[SIMDGROUP];
    permute(lanes, SIMDGROUP, order);
    Thread *first = &threads[simdgroup * SIMDGROUP];
    do {
        for (int lane : lanes) {
            if (first[lane].state == State::Ready) resume(simdgroup * SIMDGROUP + lane);
        }
    } while (try_exchange(first, simdgroup));
}

// Lets all threads go on if they wait at one barrier; true if they do.
bool pass_barrier() {
    int waiting = 0, line = 0;
    for (int i = 0; i < count; ++i) {
        if (threads[i].state != State::AtBarrier) continue;
        if (waiting > 0 && threads[i].line != line) {
            fail("threads wait at different barriers, lines %d and %d", line, threads[i].line);
        }
        waiting += 1;
        line = threads[i].line;
    }
    if (waiting == 0) return false;
    if (waiting != count) fail("%d of %d threads reach the barrier of line %d", waiting, count, line);
    for (int i = 0; i < count; ++i) threads[i].state = State::Ready;
    return true;
}

}  // namespace

void run(int size, uint64_t order, void (*function)(void *, int), void *argument) {
    if (size <= 0 || size % SIMDGROUP != 0) fail("%d threads are no whole simdgroups", size);
    count = size, body = function, of = argument;
    threads.reserve(1024);
    main_fiber = __tsan_get_current_fiber();
    for (int i = 0; i < count; ++i) reset(i);
    std::memset(of_section, 0xff, end_of_section - of_section);  // NaN
    __tsan_release(&start);
    std::vector<int> simdgroups(count / SIMDGROUP);
    do {
        permute(simdgroups.data(), simdgroups.size(), order);
        for (int simdgroup : simdgroups) run_simdgroup(simdgroup, order);
    } while (pass_barrier());
    __tsan_acquire(&end);
}

void permute(int *out, int size, uint64_t order) {
    for (int i = 0; i < size; ++i) out[i] = order == BACKWARD ? size - 1 - i : i;
    if (order <= BACKWARD) return;
    static uint64_t state;
    state = state * 6364136223846793005u + order;
    for (int i = size - 1; i > 0; --i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const int j = (state >> 33) % (i + 1), at_i = out[i];
        out[i] = out[j], out[j] = at_i;
    }
}

void barrier(int line) {
    __tsan_release(&met);
    wait(State::AtBarrier, line);
    __tsan_acquire(&met);
}

uint32_t exchange(uint32_t bits, int mask, int line) {
    Thread &self = threads[current];
    self.bits = bits;
    self.mask = mask;
    wait(State::AtExchange, line);
    return self.bits;
}

void fail(const char *format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::_Exit(1);
}

}  // namespace threads
