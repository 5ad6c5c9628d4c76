// DPDK's mempool, as functions that are not inline.

#define _GNU_SOURCE
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <sched.h>
#include <stdio.h>

// Starts the library without huge pages, devices or files, on the first core allowed; 0 if all went well.
int dpdk_start(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return -1;
    }
    int core = 0;
    while (core < CPU_SETSIZE && !CPU_ISSET(core, &allowed)) {
        core++;
    }
    // By a number of DPDK's own, for a core beyond its limit of numbers.
    char place[32];
    snprintf(place, sizeof place, "0@%d", core);
    char *arguments[] = {"peers",    "--no-huge", "-m",      "256", "--no-shconf", "--no-pci", "--no-telemetry",
                         "--lcores", place,       "--log-level", "error", NULL};
    int count = sizeof arguments / sizeof *arguments - 1;
    if (rte_eal_init(count, arguments) < 0) {
        return -1;
    }
    // It has pinned this thread to one core, and every thread inherits that.
    return sched_setaffinity(0, sizeof allowed, &allowed);
}

// Bytes that `count` elements take, headers, trailers and ring included.
size_t dpdk_bytes(unsigned count, unsigned size) {
    struct rte_mempool_objsz all;
    ssize_t ring = rte_ring_get_memsize(rte_align32pow2(count + 1));
    return (size_t)rte_mempool_calc_obj_size(size, 0, &all) * count + (ring < 0 ? 0 : ring);
}

struct rte_mempool *dpdk_create(unsigned count, unsigned size, unsigned cache) {
    return rte_mempool_create("peers", count, size, cache, 0, NULL, NULL, NULL, NULL, SOCKET_ID_ANY, 0);
}

// A thread without a number of DPDK's has no cache.
int dpdk_enter(void) { return rte_lcore_id() == LCORE_ID_ANY ? rte_thread_register() : 0; }

void dpdk_leave(void) { rte_thread_unregister(); }

void *dpdk_get(struct rte_mempool *pool) {
    void *element;
    return rte_mempool_get(pool, &element) == 0 ? element : NULL;
}

void dpdk_put(struct rte_mempool *pool, void *element) { rte_mempool_put(pool, element); }
