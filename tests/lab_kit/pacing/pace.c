/* A processor of a steady speed: a plugin of qemu's user mode that paces each thread by what it executes.

       -plugin pace.so,insn_ns=N,simd_ns=M,counts=FILE

   An instruction takes N ns, one of the vector and floating-point unit M: qemu calculates these in software, some 15
   times slower than others, and a machine whose pace is to be kept has to be slower than qemu with either. A thread that
   is ahead of its pace sleeps. One that the host has kept back catches up, unless it waits for something meanwhile, or
   is too far behind: what it lost then is counted. What it waits for comes when the kernel wakes it, not when the host has
   a core for it, so it catches up with that, too. What the kernel does for a thread takes as long as it takes.

   FILE holds counters of 64 bits that all processes share, of `struct counts`. */

#include <fcntl.h>
#include <pthread.h>
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
   far. To wake it takes some WAKING_NS, which a thread that polls loses all the time, and nobody minds. It catches up with
   no more than BEHIND_NS. */
enum { LOOK_NS = 20000, AHEAD_NS = 100000, AHEAD_AT_CALL_NS = 20000, WAKING_NS = 50000, BEHIND_NS = 50000000 };

/* executed_ns: what threads should have executed for. lost_ns: what they did not catch up with. waited_ns: for a core of
   the host, when what they waited for had come. late_ns_us: what they should have executed for between two calls of the
   system, ns, times how far behind they were at the second, us. late_by: how many calls were behind by less than 1 us, or
   not, and by less than 2, 4, 8... us. */
enum { LATE_BY = 17 };
static struct counts {
    _Atomic int64_t executed_ns, lost_ns, waited_ns, late_ns_us, late_by[LATE_BY];
} nowhere, *counts = &nowhere;
_Static_assert(BEHIND_NS / 1000 < 1 << (LATE_BY - 1), "none is later");

static intptr_t insn_ns, simd_ns;

/* due_ns: when what was executed so far should be done; 0 before anything was. executed_ns: since it last called the
   system, of what is counted. waited_ns: for a core, until then. schedstat: where the kernel tells that; -1 as long as it
   is not open. */
static _Thread_local struct {
    int64_t due_ns, look_ns, counted_ns, executed_ns, called_ns, waited_ns;
    int schedstat;
} my = {.schedstat = -1};
static pthread_key_t closing;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)SECOND_NS + now.tv_nsec;
}

static void add(_Atomic int64_t *counter, int64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

static void give_up(const char *file)
{
    perror(file);
    _exit(127);
}

static void close_schedstat(void *descriptor)
{
    close((intptr_t)descriptor);
}

/* What is open there, and was read, is of the thread that has forked. */
static void on_fork(void)
{
    if (my.schedstat >= 0)
        close(my.schedstat);
    my.schedstat = -1;
    my.waited_ns = 0;
}

/* How long the host has kept this thread waiting for a core so far. */
static int64_t waited_ns(void)
{
    static const char file[] = "/proc/thread-self/schedstat";
    char line[64];
    ssize_t length = my.schedstat < 0 ? -1 : pread(my.schedstat, line, sizeof line - 1, 0);
    if (length < 0) { /* the first time, or a program has closed all that it does not know */
        my.schedstat = open(file, O_RDONLY | O_CLOEXEC);
        length = pread(my.schedstat, line, sizeof line - 1, 0);
        if (length < 0)
            give_up(file);
        pthread_setspecific(closing, (void *)(intptr_t)my.schedstat);
    }
    line[length] = 0;
    const char *second = strchr(line, ' ');
    if (second == NULL)
        give_up(file);
    return atoll(second);
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
    add(&counts->executed_ns, my.due_ns - my.counted_ns);
    my.executed_ns += my.due_ns - my.counted_ns;
    my.counted_ns = my.due_ns;
    my.look_ns = my.due_ns + LOOK_NS;
    int64_t now = now_ns();
    while (my.due_ns - now > ahead_ns) {
        int64_t until_ns = my.due_ns - WAKING_NS;
        struct timespec until = {until_ns / SECOND_NS, until_ns % SECOND_NS};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        now = now_ns();
    }
    if (now - my.due_ns > BEHIND_NS) {
        add(&counts->lost_ns, now - my.due_ns - BEHIND_NS);
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
    int64_t now = keep_pace(AHEAD_AT_CALL_NS), late_us = (now - my.due_ns) / 1000;
    if (late_us > 0)
        add(&counts->late_ns_us, my.executed_ns * late_us);
    my.executed_ns = 0;
    add(&counts->late_by[late_us > 0 ? 64 - __builtin_clzll(late_us) : 0], 1);
    my.waited_ns = waited_ns();
    my.called_ns = now;
}

static void on_return(plugin_id id, unsigned thread, int64_t number, int64_t result)
{
    if (my.called_ns == 0) /* a thread, or process, that begins with this return */
        return;
    int64_t now = now_ns(), took_ns = now - my.called_ns, behind_ns = my.called_ns - my.due_ns;
    if (took_ns > LOOK_NS) {
        int64_t waited = waited_ns() - my.waited_ns;
        waited = waited < took_ns ? waited : took_ns;
        add(&counts->waited_ns, waited);
        now -= waited;
        took_ns -= waited;
    }
    if (behind_ns > 0 && behind_ns > took_ns) {
        begin_at(my.due_ns + took_ns);
        return;
    }
    /* What it waited for came now, however punctual it was itself. */
    if (behind_ns > WAKING_NS)
        add(&counts->lost_ns, behind_ns);
    begin_at(now > my.due_ns ? now : my.due_ns);
}

static void count_in(const char *file)
{
    int descriptor = open(file, O_RDWR | O_CLOEXEC);
    void *shared = mmap(NULL, sizeof nowhere, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (shared == MAP_FAILED)
        give_up(file);
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
    if (insn_ns <= 0 || simd_ns <= 0 || pthread_key_create(&closing, close_schedstat) || pthread_atfork(NULL, NULL, on_fork))
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    qemu_plugin_register_vcpu_syscall_ret_cb(id, on_return);
    return 0;
}
