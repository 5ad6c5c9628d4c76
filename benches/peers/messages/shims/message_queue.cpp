// Boost.Interprocess' message queue, as C functions.

#include <boost/date_time/posix_time/posix_time_types.hpp>
#include <boost/interprocess/ipc/message_queue.hpp>

namespace ipc = boost::interprocess;

extern "C" {

void *queue_open(const char *name, size_t messages, size_t size) {
    try {
        return new ipc::message_queue(ipc::open_or_create, name, messages, size);
    } catch (...) {
        return nullptr;
    }
}

void queue_close(void *queue) { delete static_cast<ipc::message_queue *>(queue); }

bool queue_send(void *queue, const void *bytes, size_t size) {
    return static_cast<ipc::message_queue *>(queue)->try_send(bytes, size, 0);
}

bool queue_receive(void *queue, void *bytes, size_t size) {
    size_t got = 0;
    unsigned priority = 0;
    return static_cast<ipc::message_queue *>(queue)->try_receive(bytes, size, got, priority);
}

bool queue_wait(void *queue, void *bytes, size_t size, unsigned milliseconds) {
    size_t got = 0;
    unsigned priority = 0;
    auto until = boost::posix_time::microsec_clock::universal_time() + boost::posix_time::milliseconds(milliseconds);
    return static_cast<ipc::message_queue *>(queue)->timed_receive(bytes, size, got, priority, until);
}
}
