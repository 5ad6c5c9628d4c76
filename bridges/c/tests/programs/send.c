/* Sends so many messages through the channel `numbers`; a message has its number, and bytes that follow from it. */
#include "check.h"

int main(int argc, char **argv) {
  HOLDS(argc == 3);
  amx_options options = {.name = argv[1]};
  amx_segment *segment;
  amx_channel *channel;
  amx_sender *sender;
  OK(amx_segment_attach(&options, &segment));
  OK(amx_channel_open(segment, "numbers", 0, &channel));
  OK(amx_sender_open(channel, &sender));
  uint32_t messages = (uint32_t)atoi(argv[2]);
  for (uint32_t number = 0; number < messages; number++) {
    amx_message message;
    OK(amx_message_allocate(segment, 4 + number % 3000, &message));
    memset(message.data, (int)(number % 251), message.size);
    memcpy(message.data, &number, 4);
    OK(amx_sender_send(sender, &message, LONG));
  }
  amx_sender_close(sender);
  amx_channel_close(channel);
  amx_segment_close(segment);
}
