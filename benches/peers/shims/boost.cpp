// Boost.Interprocess' managed shared memory, as C functions.

#include <boost/interprocess/managed_shared_memory.hpp>
#include <new>
#include <sys/mman.h>

namespace ipc = boost::interprocess;
using Memory = ipc::managed_shared_memory;

// Every peer gets its memory in place before the start. The number is MADV_POPULATE_WRITE; on kernels without it
// the pages come when they are touched.
static Memory *populated(Memory *memory) {
    madvise(memory->get_address(), memory->get_size(), 23);
    return memory;
}

extern "C" {

Memory *boost_create(const char *name, size_t size) {
    try {
        return populated(new Memory(ipc::create_only, name, size));
    } catch (...) {
        return nullptr;
    }
}

Memory *boost_open(const char *name) {
    try {
        return populated(new Memory(ipc::open_only, name));
    } catch (...) {
        return nullptr;
    }
}

void boost_remove(const char *name) { ipc::shared_memory_object::remove(name); }

void boost_close(Memory *memory) { delete memory; }

void *boost_allocate(Memory *memory, size_t size) { return memory->allocate(size, std::nothrow); }

void boost_free(Memory *memory, void *block) { memory->deallocate(block); }

size_t boost_offset(Memory *memory, void *block) { return memory->get_handle_from_address(block); }

void *boost_address(Memory *memory, size_t offset) { return memory->get_address_from_handle(offset); }
}
