// Publishes readings of a sensor and reads them where they lie: C++.
#include <atomic_matrix.hpp>
#include <cstdio>
#include <cstring>

namespace am = atomic_matrix;

struct sample {
  std::uint64_t number;
  double value;
};

int main(int argc, char** argv) try {
  amx_options options{};
  options.name = argc > 1 ? argv[1] : "cpp-example";
  options.size = 1 << 20;
  auto segment = am::segment::open_or_create(options);
  auto samples = segment.open_topic("samples");
  auto subscriber = samples.subscribe();
  for (std::uint64_t number = 1; number <= 5; number++) {
    auto message = segment.allocate(sizeof(sample));
    new (message.bytes().data()) sample{number, 20.0 + 0.5 * static_cast<double>(number)};
    samples.publish(message, am::forever);
  }
  while (auto reading = subscriber.next(std::chrono::milliseconds(0))) {
    sample read;  // copied for show: it lies still until `reading` is destroyed
    std::memcpy(&read, reading->bytes().data(), sizeof read);
    std::printf("sample %llu: %.1f\n", static_cast<unsigned long long>(read.number), read.value);
  }
  segment.unlink();
} catch (const am::error& error) {
  std::fprintf(stderr, "%s: %s\n", amx_status_name(error.status()), error.what());
  return 1;
}
