/* Sends ten messages to examples/receiver.c, filled where they lie. */
#include <atomic_matrix.h>
#include <stdio.h>
#include <stdlib.h>

static void check(amx_status status) {
  if (status != AMX_OK) {
    fprintf(stderr, "%s: %s\n", amx_status_name(status), amx_last_error());
    exit(1);
  }
}

int main(int argc, char **argv) {
  amx_options options = {.name = argc > 1 ? argv[1] : "c-example", .size = 1 << 20};
  amx_segment *segment;
  amx_channel *channel;
  amx_sender *sender;
  check(amx_segment_open_or_create(&options, &segment));
  check(amx_channel_open(segment, "greetings", 16, &channel));
  check(amx_sender_open(channel, &sender));
  for (int number = 1; number <= 10; number++) {
    amx_message message;
    check(amx_message_allocate(segment, 64, &message)); /* ours: freed if we die */
    int size = snprintf((char *)message.data, message.size, "greeting %d", number);
    check(amx_message_truncate(segment, &message, (size_t)size));
    check(amx_sender_send(sender, &message, UINT64_MAX)); /* the channel's now: it outlives us */
  }
  amx_sender_close(sender);
  amx_channel_close(channel);
  amx_segment_close(segment);
}
