// AtomicMatrix for C++20: the calls of atomic_matrix.h as classes that free what they have.
//
// What fails throws atomic_matrix::error, with the code and the text; what is merely not there yet,
// or has no room, is told by the result. Segments are shared: messages and ends of structures keep
// theirs open. README.md beside the header has a first program.

#ifndef ATOMIC_MATRIX_HPP
#define ATOMIC_MATRIX_HPP

#include "atomic_matrix.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace atomic_matrix {

// What went wrong: `what()` says what was asked, what was found, and what would help.
class error : public std::runtime_error {
 public:
  explicit error(amx_status status) : std::runtime_error(amx_last_error()), status_(status) {}
  amx_status status() const noexcept { return status_; }

 private:
  amx_status status_;
};

namespace detail {

inline void check(amx_status status) {
  if (status != AMX_OK) throw error(status);
}

// Whether it was done; false for one of the two codes that say "not yet".
inline bool done(amx_status status, amx_status not_now, amx_status not_in_time) {
  if (status == not_now || status == not_in_time) return false;
  check(status);
  return true;
}

template <typename T, void (*Close)(T*)>
struct closer {
  void operator()(T* handle) const noexcept { Close(handle); }
};
template <typename T, void (*Close)(T*)>
using handle = std::unique_ptr<T, closer<T, Close>>;

inline std::uint64_t nanoseconds(std::chrono::nanoseconds time) {
  return time.count() < 0 ? 0 : static_cast<std::uint64_t>(time.count());
}

inline std::span<const std::byte> bytes(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

}  // namespace detail

// As long as a wait can be.
inline constexpr std::chrono::nanoseconds forever = std::chrono::nanoseconds::max();

// Bytes with one owner, where they lie. Destroyed, it is freed, unless it was sent or let go.
class message {
 public:
  message(std::shared_ptr<amx_segment> segment, const amx_message& raw) : segment_(std::move(segment)), raw_(raw) {}
  message(message&& other) noexcept : segment_(std::move(other.segment_)), raw_(std::exchange(other.raw_, amx_message{})) {}
  message& operator=(message&& other) noexcept {
    if (this != &other) {
      free();
      segment_ = std::move(other.segment_);
      raw_ = std::exchange(other.raw_, amx_message{});
    }
    return *this;
  }
  message(const message&) = delete;
  message& operator=(const message&) = delete;
  ~message() { free(); }

  std::span<std::byte> bytes() noexcept { return {reinterpret_cast<std::byte*>(raw_.data), raw_.size}; }
  std::span<const std::byte> bytes() const noexcept { return detail::bytes(raw_.data, raw_.size); }
  // False once it was sent, published or let go.
  explicit operator bool() const noexcept { return raw_.data != nullptr; }

  void truncate(std::size_t size) { detail::check(amx_message_truncate(segment_.get(), &raw_, size)); }
  // Lets it go: it is nobody's until somebody adopts it by the reference.
  amx_ref hand_over() {
    amx_ref reference = 0;
    detail::check(amx_message_hand_over(segment_.get(), &raw_, &reference));
    return reference;
  }
  // For the calls of atomic_matrix.h.
  amx_message* raw() noexcept { return &raw_; }

 private:
  void free() noexcept {
    if (raw_.data != nullptr) amx_message_free(segment_.get(), &raw_);
    raw_ = amx_message{};
  }

  std::shared_ptr<amx_segment> segment_;
  amx_message raw_;
};

// Sends. Any thread may use it, and several at once.
class sender {
 public:
  explicit sender(amx_sender* raw) : raw_(raw) {}
  // False if there is no room now; the message stays then.
  bool try_send(message& message) {
    return detail::done(amx_sender_try_send(raw_.get(), message.raw()), AMX_FULL, AMX_FULL);
  }
  // False if there was no room for so long; the message stays then.
  bool send(message& message, std::chrono::nanoseconds timeout = forever) {
    return detail::done(amx_sender_send(raw_.get(), message.raw(), detail::nanoseconds(timeout)), AMX_TIMEOUT, AMX_TIMEOUT);
  }

 private:
  detail::handle<amx_sender, amx_sender_close> raw_;
};

// Receives. Any thread may use it, and several at once: each message goes to one of them.
class receiver {
 public:
  receiver(std::shared_ptr<amx_segment> segment, amx_receiver* raw) : segment_(std::move(segment)), raw_(raw) {}
  // None if there is none now.
  std::optional<message> try_recv() {
    amx_message raw{};
    if (!detail::done(amx_receiver_try_recv(raw_.get(), &raw), AMX_EMPTY, AMX_EMPTY)) return std::nullopt;
    return message(segment_, raw);
  }
  // None if there was none for so long.
  std::optional<message> recv(std::chrono::nanoseconds timeout = forever) {
    amx_message raw{};
    if (!detail::done(amx_receiver_recv(raw_.get(), &raw, detail::nanoseconds(timeout)), AMX_TIMEOUT, AMX_TIMEOUT)) {
      return std::nullopt;
    }
    return message(segment_, raw);
  }
  amx_receiver* raw() noexcept { return raw_.get(); }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_receiver, amx_receiver_close> raw_;
};

// A bounded queue of messages between any number of processes.
class channel {
 public:
  channel(std::shared_ptr<amx_segment> segment, amx_channel* raw) : segment_(std::move(segment)), raw_(raw) {}
  sender open_sender() const {
    amx_sender* raw = nullptr;
    detail::check(amx_sender_open(raw_.get(), &raw));
    return sender(raw);
  }
  receiver open_receiver() const {
    amx_receiver* raw = nullptr;
    detail::check(amx_receiver_open(raw_.get(), &raw));
    return receiver(segment_, raw);
  }
  std::size_t size() const { return amx_channel_length(raw_.get()); }
  // Nobody sends any more; what is in it is received.
  void end() { detail::check(amx_channel_end(raw_.get())); }
  void remove() { detail::check(amx_channel_remove(raw_.get())); }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_channel, amx_channel_close> raw_;
};

class subscriber;

// A publication that is just read: it stays as it is until this is destroyed, which moves its
// subscriber on.
class reading {
 public:
  reading(const amx_subscriber* of, std::span<const std::byte> bytes) : of_(of), bytes_(bytes) {}
  reading(reading&& other) noexcept : of_(std::exchange(other.of_, nullptr)), bytes_(other.bytes_) {}
  reading(const reading&) = delete;
  reading& operator=(const reading&) = delete;
  reading& operator=(reading&&) = delete;
  ~reading() {
    if (of_ != nullptr) amx_subscriber_done(of_);
  }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  const amx_subscriber* of_;
  std::span<const std::byte> bytes_;
};

// Sees every publication, one after the other. One thread uses it at a time, and has one reading of
// it at a time.
class subscriber {
 public:
  explicit subscriber(amx_subscriber* raw) : raw_(raw) {}
  // None if nothing was published for so long.
  std::optional<reading> next(std::chrono::nanoseconds timeout = forever) {
    const std::uint8_t* data = nullptr;
    std::size_t size = 0;
    amx_status status = amx_subscriber_next(raw_.get(), detail::nanoseconds(timeout), &data, &size);
    if (!detail::done(status, AMX_TIMEOUT, AMX_TIMEOUT)) return std::nullopt;
    return std::optional<reading>(std::in_place, raw_.get(), detail::bytes(data, size));
  }

 private:
  detail::handle<amx_subscriber, amx_subscriber_close> raw_;
};

// What is published is seen by every subscriber, where it lies.
class topic {
 public:
  explicit topic(amx_topic* raw) : raw_(raw) {}
  // False if a subscriber is too far behind; the message stays then.
  bool try_publish(message& message) {
    return detail::done(amx_topic_try_publish(raw_.get(), message.raw()), AMX_FULL, AMX_FULL);
  }
  bool publish(message& message, std::chrono::nanoseconds timeout) {
    return detail::done(amx_topic_publish(raw_.get(), message.raw(), detail::nanoseconds(timeout)), AMX_TIMEOUT, AMX_TIMEOUT);
  }
  subscriber subscribe(std::uint64_t history = 0) const {
    amx_subscriber* raw = nullptr;
    detail::check(amx_subscriber_open(raw_.get(), history, &raw));
    return subscriber(raw);
  }
  std::uint64_t published() const { return amx_topic_published(raw_.get()); }
  void remove() { detail::check(amx_topic_remove(raw_.get())); }

 private:
  detail::handle<amx_topic, amx_topic_close> raw_;
};

// The latest value of something, as a copy that is never torn.
class board {
 public:
  explicit board(amx_board* raw) : raw_(raw) {}
  void set(std::span<const std::byte> value) {
    detail::check(amx_board_set(raw_.get(), reinterpret_cast<const std::uint8_t*>(value.data()), value.size()));
  }
  void set(message& value) { detail::check(amx_board_set_message(raw_.get(), value.raw())); }
  // None if none was set yet.
  std::optional<std::vector<std::byte>> get() const {
    return copied([this](std::uint8_t* buffer, std::size_t capacity, std::size_t* size) {
      return amx_board_get(raw_.get(), buffer, capacity, size);
    });
  }
  // The value once it is not the one that `seen` (0 at first) says; none if there was no other for
  // so long.
  std::optional<std::vector<std::byte>> changed(std::uint64_t& seen, std::chrono::nanoseconds timeout) const {
    return copied([&](std::uint8_t* buffer, std::size_t capacity, std::size_t* size) {
      return amx_board_changed(raw_.get(), &seen, detail::nanoseconds(timeout), buffer, capacity, size);
    });
  }
  void remove() { detail::check(amx_board_remove(raw_.get())); }

 private:
  template <typename Copy>
  static std::optional<std::vector<std::byte>> copied(Copy copy) {
    std::vector<std::byte> value(256);
    for (;;) {
      std::size_t size = 0;
      amx_status status = copy(reinterpret_cast<std::uint8_t*>(value.data()), value.size(), &size);
      // The next value may be larger still.
      if (status == AMX_BUFFER_TOO_SMALL) {
        value.resize(size);
        continue;
      }
      if (!detail::done(status, AMX_EMPTY, AMX_TIMEOUT)) return std::nullopt;
      value.resize(size);
      return value;
    }
  }

  detail::handle<amx_board, amx_board_close> raw_;
};

// A value of a map that is read where it lies: it stays as it is until this is destroyed.
class entry {
 public:
  entry(amx_entry* raw, std::span<const std::byte> bytes) : raw_(raw), bytes_(bytes) {}
  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  detail::handle<amx_entry, amx_entry_close> raw_;
  std::span<const std::byte> bytes_;
};

// Values under keys. Any thread may use it, and several at once.
class map {
 public:
  map(std::shared_ptr<amx_segment> segment, amx_map* raw) : segment_(std::move(segment)), raw_(raw) {}
  // A message with room for its key, which is put in without a copy.
  message allocate(std::string_view key, std::size_t size) const {
    amx_message raw{};
    detail::check(amx_map_allocate(raw_.get(), data(key), key.size(), size, &raw));
    return message(segment_, raw);
  }
  void insert(std::string_view key, message& value) {
    detail::check(amx_map_insert(raw_.get(), data(key), key.size(), value.raw()));
  }
  // False if the key is there; the message stays then.
  bool insert_new(std::string_view key, message& value) {
    amx_status status = amx_map_insert_new(raw_.get(), data(key), key.size(), value.raw());
    return detail::done(status, AMX_NAME_TAKEN, AMX_NAME_TAKEN);
  }
  // False if the key is not there; the message stays then.
  bool replace(std::string_view key, message& value) {
    amx_status status = amx_map_replace(raw_.get(), data(key), key.size(), value.raw());
    return detail::done(status, AMX_NAME_UNKNOWN, AMX_NAME_UNKNOWN);
  }
  // None if the key is not there.
  std::optional<entry> get(std::string_view key) const {
    amx_entry* raw = nullptr;
    const std::uint8_t* found = nullptr;
    std::size_t size = 0;
    amx_status status = amx_map_read(raw_.get(), data(key), key.size(), &raw, &found, &size);
    if (!detail::done(status, AMX_NAME_UNKNOWN, AMX_NAME_UNKNOWN)) return std::nullopt;
    return std::optional<entry>(std::in_place, raw, detail::bytes(found, size));
  }
  // None if the key is not there. Who reads it is waited for, and then it is a copy.
  std::optional<message> take(std::string_view key, std::chrono::nanoseconds timeout = std::chrono::nanoseconds(0)) {
    amx_message raw{};
    amx_status status = amx_map_take(raw_.get(), data(key), key.size(), detail::nanoseconds(timeout), &raw);
    if (!detail::done(status, AMX_NAME_UNKNOWN, AMX_NAME_UNKNOWN)) return std::nullopt;
    return message(segment_, raw);
  }
  std::vector<std::string> keys() const {
    std::vector<std::string> keys;
    auto visit = [](void* context, const std::uint8_t* key, std::size_t size) noexcept {
      static_cast<std::vector<std::string>*>(context)->emplace_back(reinterpret_cast<const char*>(key), size);
    };
    detail::check(amx_map_keys(raw_.get(), visit, &keys));
    return keys;
  }
  std::size_t size() const { return amx_map_length(raw_.get()); }
  void remove() { detail::check(amx_map_remove(raw_.get())); }

 private:
  static const std::uint8_t* data(std::string_view key) { return reinterpret_cast<const std::uint8_t*>(key.data()); }

  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_map, amx_map_close> raw_;
};

// A request that a server works at. Destroyed without a response, whoever waits for one is told so.
class request {
 public:
  request(std::shared_ptr<amx_segment> segment, amx_request* raw, std::span<const std::byte> bytes)
      : segment_(std::move(segment)), raw_(raw), bytes_(bytes) {}
  // Until it is answered.
  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  // A response that is sent without a copy.
  message allocate(std::size_t size) const {
    amx_message raw{};
    detail::check(amx_request_allocate(raw_.get(), size, &raw));
    return message(segment_, raw);
  }
  void respond(message& response) { detail::check(amx_request_respond(raw_.get(), response.raw())); }
  // Others come behind this one. Whether there was room for so long; if not, it stays.
  bool send(message& response, std::chrono::nanoseconds timeout = forever) {
    return detail::done(amx_request_send(raw_.get(), response.raw(), detail::nanoseconds(timeout)), AMX_FULL, AMX_FULL);
  }
  // There are no more.
  void finish() { detail::check(amx_request_finish(raw_.get())); }
  bool is_awaited() const { return amx_request_is_awaited(raw_.get()); }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_request, amx_request_close> raw_;
  std::span<const std::byte> bytes_;
};

// Receives requests. Any thread may use it, and several at once: each request goes to one of them.
class server {
 public:
  server(std::shared_ptr<amx_segment> segment, amx_server* raw) : segment_(std::move(segment)), raw_(raw) {}
  // None if there was none for so long.
  std::optional<request> next(std::chrono::nanoseconds timeout = forever) {
    amx_request* raw = nullptr;
    std::uint8_t* data = nullptr;
    std::size_t size = 0;
    amx_status status = amx_server_next(raw_.get(), detail::nanoseconds(timeout), &raw, &data, &size);
    if (!detail::done(status, AMX_TIMEOUT, AMX_TIMEOUT)) return std::nullopt;
    return std::optional<request>(std::in_place, segment_, raw, detail::bytes(data, size));
  }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_server, amx_server_close> raw_;
};

// The responses to one call, as they come. Until it is destroyed its client makes no other call.
class responses {
 public:
  responses(std::shared_ptr<amx_segment> segment, amx_responses* raw) : segment_(std::move(segment)), raw_(raw) {}
  // None behind the last one. AMX_TIMEOUT is thrown if there was none for so long, and then it may be tried again.
  std::optional<message> next(std::chrono::nanoseconds timeout = forever) {
    amx_message raw{};
    amx_status status = amx_responses_next(raw_.get(), detail::nanoseconds(timeout), &raw);
    if (!detail::done(status, AMX_CLOSED, AMX_CLOSED)) return std::nullopt;
    return message(segment_, raw);
  }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_responses, amx_responses_close> raw_;
};

// Calls, one call at a time: another thread has a client of its own.
class client {
 public:
  client(std::shared_ptr<amx_segment> segment, amx_client* raw) : segment_(std::move(segment)), raw_(raw) {}
  // A request that is sent without a copy.
  message allocate(std::size_t size) const {
    amx_message raw{};
    detail::check(amx_client_allocate(raw_.get(), size, &raw));
    return message(segment_, raw);
  }
  // None if there was no response for so long. The request stays if no server can have it.
  std::optional<message> call(message& request, std::chrono::nanoseconds timeout = forever) {
    amx_message raw{};
    amx_status status = amx_client_call(raw_.get(), request.raw(), detail::nanoseconds(timeout), &raw);
    if (!detail::done(status, AMX_TIMEOUT, AMX_TIMEOUT)) return std::nullopt;
    return message(segment_, raw);
  }
  // The request stays if it is not sent: AMX_TIMEOUT, if there was no room for it for so long.
  responses stream(message& request, std::chrono::nanoseconds timeout = forever) {
    amx_responses* raw = nullptr;
    detail::check(amx_client_stream(raw_.get(), request.raw(), detail::nanoseconds(timeout), &raw));
    return responses(segment_, raw);
  }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_client, amx_client_close> raw_;
};

// Requests, and a response to each.
class service {
 public:
  service(std::shared_ptr<amx_segment> segment, amx_service* raw) : segment_(std::move(segment)), raw_(raw) {}
  client open_client() const {
    amx_client* raw = nullptr;
    detail::check(amx_client_open(raw_.get(), &raw));
    return client(segment_, raw);
  }
  server open_server() const {
    amx_server* raw = nullptr;
    detail::check(amx_server_open(raw_.get(), &raw));
    return server(segment_, raw);
  }
  void remove() { detail::check(amx_service_remove(raw_.get())); }

 private:
  std::shared_ptr<amx_segment> segment_;
  detail::handle<amx_service, amx_service_close> raw_;
};

// A process's way into a segment, cheap to copy.
class segment {
 public:
  static segment create(const amx_options& options) { return opened(amx_segment_create, options); }
  static segment attach(const amx_options& options) { return opened(amx_segment_attach, options); }
  static segment open_or_create(const amx_options& options) { return opened(amx_segment_open_or_create, options); }

  void unlink() { detail::check(amx_segment_unlink(raw_.get())); }
  amx_stats stats() const {
    amx_stats stats{};
    detail::check(amx_segment_stats(raw_.get(), &stats));
    return stats;
  }
  // A message of so many bytes, which are whatever was there before.
  message allocate(std::size_t size) const {
    amx_message raw{};
    detail::check(amx_message_allocate(raw_.get(), size, &raw));
    return message(raw_, raw);
  }
  // Takes what a reference leads to: of all who try, one gets it.
  message adopt(amx_ref reference) const {
    amx_message raw{};
    detail::check(amx_message_adopt(raw_.get(), reference, &raw));
    return message(raw_, raw);
  }
  void publish(const std::string& name, message& message) const {
    detail::check(amx_name_publish(raw_.get(), name.c_str(), message.raw()));
  }
  message take(const std::string& name) const {
    amx_message raw{};
    detail::check(amx_name_take(raw_.get(), name.c_str(), &raw));
    return message(raw_, raw);
  }
  // With a capacity of 0 it must be there.
  channel open_channel(const std::string& name, std::size_t capacity = 0) const {
    amx_channel* raw = nullptr;
    detail::check(amx_channel_open(raw_.get(), name.c_str(), capacity, &raw));
    return channel(raw_, raw);
  }
  topic open_topic(const std::string& name, std::size_t cells = 0, std::uint16_t subscribers = 0) const {
    amx_topic* raw = nullptr;
    detail::check(amx_topic_open(raw_.get(), name.c_str(), cells, subscribers, &raw));
    return topic(raw);
  }
  board open_board(const std::string& name) const {
    amx_board* raw = nullptr;
    detail::check(amx_board_open(raw_.get(), name.c_str(), &raw));
    return board(raw);
  }
  // For 256 entries and 64 guards, unless said otherwise.
  map open_map(const std::string& name, std::size_t capacity = 0, std::uint16_t guards = 0) const {
    amx_map* raw = nullptr;
    detail::check(amx_map_open(raw_.get(), name.c_str(), capacity, guards, &raw));
    return map(raw_, raw);
  }
  // With room for 64 requests that wait, unless said otherwise.
  service open_service(const std::string& name, std::size_t capacity = 0) const {
    amx_service* raw = nullptr;
    detail::check(amx_service_open(raw_.get(), name.c_str(), capacity, &raw));
    return service(raw_, raw);
  }
  amx_segment* raw() const noexcept { return raw_.get(); }

 private:
  explicit segment(amx_segment* raw) : raw_(raw, amx_segment_close) {}
  static segment opened(amx_status (*open)(const amx_options*, amx_segment**), const amx_options& options) {
    amx_segment* raw = nullptr;
    detail::check(open(&options, &raw));
    return segment(raw);
  }

  std::shared_ptr<amx_segment> raw_;
};

}  // namespace atomic_matrix

#endif  // ATOMIC_MATRIX_HPP
