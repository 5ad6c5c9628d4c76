// The wrapper for C++: what it frees, what it tells, what it throws.
#include <atomic_matrix.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

namespace am = atomic_matrix;
using namespace std::chrono_literals;

#define HOLDS(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);   \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (0)

template <typename Act>
static bool throws(amx_status status, Act act) {
  try {
    act();
  } catch (const am::error& error) {
    return error.status() == status && std::string_view(error.what()).size() > 20;
  }
  return false;
}

static am::message message(const am::segment& segment, std::string_view text) {
  auto made = segment.allocate(text.size());
  std::memcpy(made.bytes().data(), text.data(), text.size());
  return made;
}

static std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

static void channels(const am::segment& segment) {
  HOLDS(throws(AMX_NAME_UNKNOWN, [&] { segment.open_channel("queue"); }));
  auto queue = segment.open_channel("queue", 2);
  auto sender = queue.open_sender();
  auto receiver = queue.open_receiver();
  HOLDS(!receiver.try_recv() && !receiver.recv(1ms));
  std::thread([&segment, sender = std::move(sender)]() mutable {
    auto made = message(segment, "first");
    HOLDS(sender.try_send(made) && !made);
    HOLDS(throws(AMX_BAD_ARGUMENT, [&] { sender.send(made); }));
    made = message(segment, "second");
    HOLDS(sender.send(made));
    made = message(segment, "third");
    HOLDS(!sender.try_send(made) && !sender.send(made, 1ms) && text(made.bytes()) == "third");
  }).join();
  HOLDS(queue.size() == 2);
  auto first = receiver.recv();
  HOLDS(first && text(first->bytes()) == "first");
  auto moved = std::move(*first);
  HOLDS(!*first && text(moved.bytes()) == "first");
  HOLDS(text(receiver.try_recv()->bytes()) == "second");
  HOLDS(throws(AMX_DISCONNECTED, [&] { receiver.recv(1s); }));
  queue.end();
  HOLDS(throws(AMX_CLOSED, [&] { receiver.recv(1s); }));
  queue.remove();
}

static void topics(const am::segment& segment) {
  auto topic = segment.open_topic("topic", 2, 2);
  auto subscriber = topic.subscribe();
  for (std::string_view word : {"one", "two"}) {
    auto made = message(segment, word);
    HOLDS(topic.publish(made, 1s));
  }
  auto made = message(segment, "three");
  HOLDS(!topic.try_publish(made) && made);
  {
    auto reading = subscriber.next();
    HOLDS(text(reading->bytes()) == "one");
  }
  HOLDS(topic.try_publish(made));
  HOLDS(text(subscriber.next(0ms)->bytes()) == "two");
  HOLDS(text(subscriber.next(0ms)->bytes()) == "three");
  HOLDS(!subscriber.next(1ms) && topic.published() == 3);
  topic.remove();
  HOLDS(throws(AMX_CLOSED, [&] { subscriber.next(1s); }));
}

static void boards(const am::segment& segment) {
  auto board = segment.open_board("board");
  std::uint64_t seen = 0;
  HOLDS(!board.get() && !board.changed(seen, 1ms));
  std::string large(5000, 'x');
  auto made = message(segment, large);
  board.set(made);
  HOLDS(text(*board.get()) == large && text(*board.changed(seen, 1s)) == large && !board.changed(seen, 1ms));
  board.set(std::as_bytes(std::span(large).first(3)));
  HOLDS(text(*board.get()) == "xxx");
  board.remove();
}

static void maps(const am::segment& segment) {
  auto map = segment.open_map("map", 8, 2);
  auto made = map.allocate("one", 5);
  std::memcpy(made.bytes().data(), "first", 5);
  HOLDS(!map.replace("one", made) && made);
  HOLDS(map.insert_new("one", made) && !made);
  made = message(segment, "second");
  HOLDS(!map.insert_new("one", made) && text(made.bytes()) == "second");
  {
    auto reading = map.get("one");
    map.insert("one", made);
    HOLDS(text(reading->bytes()) == "first" && text(map.get("one")->bytes()) == "second");
  }
  made = message(segment, "third");
  HOLDS(map.replace("one", made));
  made = message(segment, "other");
  map.insert("two", made);
  HOLDS(map.size() == 2 && map.keys().size() == 2);
  HOLDS(text(map.take("one")->bytes()) == "third" && !map.take("one") && !map.get("one"));
  map.remove();
  HOLDS(throws(AMX_CLOSED, [&] { map.insert("one", *std::make_unique<am::message>(message(segment, "late"))); }));
}

static void services(const am::segment& segment) {
  auto service = segment.open_service("service");
  std::thread serving([server = service.open_server()]() mutable {
    for (int answered = 0; answered < 3;) {
      auto request = server.next();
      if (text(request->bytes()) == "spell") {
        for (std::byte letter : request->bytes()) {
          auto response = request->allocate(1);
          response.bytes()[0] = letter;
          HOLDS(request->is_awaited() && request->send(response, 60s) && !response);
        }
        request->finish();
        answered++;
        continue;
      }
      if (text(request->bytes()) == "nothing") continue;
      auto response = request->allocate(request->bytes().size() + 1);
      std::memcpy(response.bytes().data(), request->bytes().data(), request->bytes().size());
      response.bytes().back() = std::byte{'!'};
      request->respond(response);
      answered++;
    }
  });
  auto client = service.open_client();
  auto request = client.allocate(3);
  std::memcpy(request.bytes().data(), "one", 3);
  HOLDS(text(client.call(request)->bytes()) == "one!" && !request);
  request = message(segment, "nothing");
  HOLDS(throws(AMX_DISCONNECTED, [&] { client.call(request); }));
  request = message(segment, "two");
  HOLDS(text(client.call(request, 60s)->bytes()) == "two!");
  request = message(segment, "spell");
  std::string spelt;
  {
    auto letters = client.stream(request);
    HOLDS(!request);
    while (auto letter = letters.next(60s)) spelt += text(letter->bytes());
    HOLDS(throws(AMX_BUSY, [&] { client.stream(*std::make_unique<am::message>(message(segment, "another"))); }));
  }
  HOLDS(spelt == "spell");
  serving.join();
  service.remove();
}

int main(int argc, char** argv) {
  HOLDS(argc == 2);
  amx_options options{};
  options.name = argv[1];
  HOLDS(throws(AMX_NOT_FOUND, [&] { am::segment::attach(options); }));
  options.size = 1 << 20;
  auto segment = am::segment::create(options);
  auto again = am::segment::open_or_create(options);
  channels(segment);
  topics(again);
  boards(segment);
  maps(again);
  services(segment);
  {
    auto kept = message(segment, "kept");
    auto reference = kept.hand_over();
    auto adopted = again.adopt(reference);
    adopted.truncate(2);
    again.publish("name", adopted);
    HOLDS(text(segment.take("name").bytes()) == "ke");
    HOLDS(throws(AMX_NAME_UNKNOWN, [&] { segment.take("name"); }));
  }
  HOLDS(segment.stats().live_blocks == 0);
  // A message keeps its segment open.
  auto last = std::make_unique<am::message>(message(again, "last"));
  again = segment;
  HOLDS(text(last->bytes()) == "last");
  last.reset();
  HOLDS(segment.stats().live_blocks == 0);
  segment.unlink();
}
