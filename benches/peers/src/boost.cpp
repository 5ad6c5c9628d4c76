// Boost.Interprocess' managed shared memory behind C functions; none throws.
#include <boost/interprocess/managed_shared_memory.hpp>
#include <boost/version.hpp>
#include <cstddef>
#include <new>

using Segment = boost::interprocess::managed_shared_memory;

extern "C" {
Segment *boost_create(const char *name, std::size_t size) noexcept {
    try {
        return new Segment(boost::interprocess::create_only, name, size);
    } catch (...) {
        return nullptr;
    }
}
Segment *boost_open(const char *name) noexcept {
    try {
        return new Segment(boost::interprocess::open_only, name);
    } catch (...) {
        return nullptr;
    }
}
void boost_close(Segment *segment) noexcept { delete segment; }
bool boost_remove(const char *name) noexcept { return boost::interprocess::shared_memory_object::remove(name); }
void *boost_base(const Segment *segment) noexcept { return segment->get_address(); }
std::size_t boost_room(const Segment *segment) noexcept { return segment->get_free_memory(); }
void *boost_allocate(Segment *segment, std::size_t size) noexcept { return segment->allocate(size, std::nothrow); }
void boost_free(Segment *segment, void *block) noexcept { segment->deallocate(block); }
unsigned boost_version() noexcept { return BOOST_VERSION; }
}
