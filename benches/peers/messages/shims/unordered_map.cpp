// Boost's unordered_map in Boost.Interprocess' managed shared memory, behind a mutex in it, as C functions.

#include <array>
#include <boost/functional/hash.hpp>
#include <boost/interprocess/allocators/allocator.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>
#include <boost/unordered_map.hpp>
#include <cstring>

namespace ipc = boost::interprocess;

using Key = std::array<unsigned char, 32>;
using Value = std::array<unsigned long, 8>;
struct Hash {
    size_t operator()(const Key &key) const { return boost::hash_range(key.begin(), key.end()); }
};
using Allocator = ipc::allocator<std::pair<const Key, Value>, ipc::managed_shared_memory::segment_manager>;
using Map = boost::unordered_map<Key, Value, Hash, std::equal_to<Key>, Allocator>;
using Lock = ipc::scoped_lock<ipc::interprocess_mutex>;

struct Opened {
    ipc::managed_shared_memory memory;
    ipc::interprocess_mutex *mutex;
    Map *map;
    Opened(const char *name, size_t size, size_t keys) : memory(ipc::open_or_create, name, size) {
        mutex = memory.find_or_construct<ipc::interprocess_mutex>("mutex")();
        map = memory.find_or_construct<Map>("map")(keys, Hash(), std::equal_to<Key>(),
                                                   Allocator(memory.get_segment_manager()));
    }
};

extern "C" {

void *map_open(const char *name, size_t size, size_t keys) {
    try {
        return new Opened(name, size, keys);
    } catch (...) {
        return nullptr;
    }
}

void map_close(void *map) { delete static_cast<Opened *>(map); }

bool map_get(void *map, const unsigned char *key, unsigned long *value) {
    Opened *opened = static_cast<Opened *>(map);
    Key wanted;
    std::memcpy(wanted.data(), key, sizeof wanted);
    Lock lock(*opened->mutex);
    auto found = opened->map->find(wanted);
    if (found == opened->map->end()) return false;
    std::memcpy(value, found->second.data(), sizeof(Value));
    return true;
}

bool map_put(void *map, const unsigned char *key, const unsigned long *value) {
    Opened *opened = static_cast<Opened *>(map);
    Key wanted;
    std::memcpy(wanted.data(), key, sizeof wanted);
    try {
        Lock lock(*opened->mutex);
        std::memcpy((*opened->map)[wanted].data(), value, sizeof(Value));
        return true;
    } catch (...) {
        return false;
    }
}
}
