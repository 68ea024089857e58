/* A processor of a steady speed: a plugin of qemu's user mode that paces each thread by what it executes.

       -plugin pace.so,insn_ns=N,simd_ns=M,counts=FILE

   An instruction takes N ns, one of the vector and floating-point unit M: qemu calculates these in software, some 15
   times slower than others, and a machine whose pace is to be kept has to be slower than qemu with either. A thread that
   is ahead of its pace sleeps. One that the host has kept back catches up, unless it waits for something meanwhile, or
   is too far behind: what it lost then is counted. What the kernel does for a thread takes as long as it takes.

   FILE holds two counters of 64 bits that all processes share: ns that threads should have executed for, and that they
   lost. */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* The plugin interface of qemu, version 1: Debian's packages come without its header. */
typedef uint64_t plugin_id;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, void *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(void *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
    uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern void qemu_plugin_register_vcpu_syscall_ret_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, int64_t));
extern size_t qemu_plugin_tb_n_insns(const void *);
extern void *qemu_plugin_tb_get_insn(const void *, size_t);
extern const void *qemu_plugin_insn_data(const void *);
int qemu_plugin_version = 1;

enum { SECOND_NS = 1000000000 };
/* A thread looks at the clock so often; it sleeps when it is so far ahead, and before a call of the system when it is so
   far: to sleep takes some 50 us. It catches up with no more than BEHIND_NS. */
enum { LOOK_NS = 20000, AHEAD_NS = 100000, AHEAD_AT_CALL_NS = 20000, BEHIND_NS = 50000000 };

static intptr_t insn_ns, simd_ns;
static _Atomic int64_t nowhere[2], *counts = nowhere;

/* due_ns: when what was executed so far should be done; 0 before anything was. */
static _Thread_local struct {
    int64_t due_ns, look_ns, counted_ns, called_ns;
} my;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)SECOND_NS + now.tv_nsec;
}

/* The pace is that of another time from now on. */
static void begin_at(int64_t due_ns)
{
    my.due_ns = my.counted_ns = due_ns;
    my.look_ns = due_ns + LOOK_NS;
}

/* The time now, which is when this thread's work is due, or later. */
static int64_t keep_pace(int64_t ahead_ns)
{
    atomic_fetch_add_explicit(&counts[0], my.due_ns - my.counted_ns, memory_order_relaxed);
    my.counted_ns = my.due_ns;
    my.look_ns = my.due_ns + LOOK_NS;
    int64_t now = now_ns();
    if (my.due_ns - now > ahead_ns) {
        struct timespec until = {my.due_ns / SECOND_NS, my.due_ns % SECOND_NS};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
            ;
        now = now_ns();
    }
    if (now - my.due_ns > BEHIND_NS) {
        atomic_fetch_add_explicit(&counts[1], now - my.due_ns - BEHIND_NS, memory_order_relaxed);
        begin_at(now - BEHIND_NS);
    }
    return now;
}

static void on_block(unsigned thread, void *takes_ns)
{
    if (my.look_ns == 0) {
        prctl(PR_SET_TIMERSLACK, 1);
        begin_at(now_ns());
    }
    my.due_ns += (intptr_t)takes_ns;
    if (my.due_ns >= my.look_ns)
        keep_pace(AHEAD_NS);
}

static void on_translation(plugin_id id, void *block)
{
    intptr_t takes_ns = 0;
    for (size_t each = 0, end = qemu_plugin_tb_n_insns(block); each < end; each++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, each)), sizeof word);
        /* A64: "data processing, floating-point and SIMD" has x111 in bits 28 to 25. */
        takes_ns += (word >> 25 & 7) == 7 ? simd_ns : insn_ns;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, 0, (void *)takes_ns);
}

static void on_call(plugin_id id, unsigned thread, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
    uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    my.called_ns = keep_pace(AHEAD_AT_CALL_NS);
}

static void on_return(plugin_id id, unsigned thread, int64_t number, int64_t result)
{
    if (my.called_ns == 0) /* a thread, or process, that begins with this return */
        return;
    int64_t now = now_ns(), took_ns = now - my.called_ns, behind_ns = my.called_ns - my.due_ns;
    if (behind_ns > 0 && behind_ns > took_ns) {
        begin_at(my.due_ns + took_ns);
        return;
    }
    /* What it waited for came now, however punctual it was itself. */
    if (behind_ns > 0)
        atomic_fetch_add_explicit(&counts[1], behind_ns, memory_order_relaxed);
    begin_at(now > my.due_ns ? now : my.due_ns);
}

static void count_in(const char *file)
{
    int descriptor = open(file, O_RDWR | O_CLOEXEC);
    void *shared = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (shared == MAP_FAILED) {
        perror(file);
        _exit(127);
    }
    close(descriptor);
    counts = shared;
}

int qemu_plugin_install(plugin_id id, const void *about, int argc, char **argv)
{
    for (int each = 0; each < argc; each++) {
        const char *value = strchr(argv[each], '=') + 1;
        if (strncmp(argv[each], "insn_ns=", 8) == 0)
            insn_ns = atoi(value);
        else if (strncmp(argv[each], "simd_ns=", 8) == 0)
            simd_ns = atoi(value);
        else if (strncmp(argv[each], "counts=", 7) == 0)
            count_in(value);
        else
            return -1;
    }
    if (insn_ns <= 0 || simd_ns <= 0)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, on_return);
    return 0;
}
