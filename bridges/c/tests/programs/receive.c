/* Receives from the channel `numbers`, and ticks each message off in the book that is published as `book`: a byte for
   each. It says when it begins, and goes on until it is killed; with an argument it keeps the message after so many, says so, and waits to be
   killed. */
#include "check.h"
#include <stdatomic.h>
#include <unistd.h>

int main(int argc, char **argv) {
  HOLDS(argc == 2 || argc == 3);
  uint64_t keep = argc == 3 ? (uint64_t)atoi(argv[2]) : UINT64_MAX;
  amx_options options = {.name = argv[1]};
  amx_segment *segment;
  amx_channel *channel;
  amx_receiver *receiver;
  amx_ref book;
  OK(amx_segment_attach(&options, &segment));
  OK(amx_channel_open(segment, "numbers", 0, &channel));
  OK(amx_receiver_open(channel, &receiver));
  OK(amx_name_lookup(segment, "book", &book));
  amx_block block;
  size_t size;
  OK(amx_ref_read(segment, book, (uint8_t *)&block, sizeof block, &size));
  uint8_t *address;
  OK(amx_block_address(segment, block, &address, &size));
  atomic_uchar *ticks = (atomic_uchar *)address;
  if (keep == UINT64_MAX) {
    puts("receives");
    fflush(stdout);
  }
  for (uint64_t received = 0;; received++) {
    amx_message message;
    amx_status status = amx_receiver_recv(receiver, &message, LONG);
    if (status == AMX_CLOSED) break;
    OK(status);
    if (received == keep) {
      puts("kept");
      fflush(stdout);
      pause();
    }
    uint32_t number;
    memcpy(&number, message.data, 4);
    HOLDS(number < size);
    HOLDS(message.size == 4 + number % 3000);
    for (size_t i = 4; i < message.size; i++) HOLDS(message.data[i] == number % 251);
    atomic_fetch_add(&ticks[number], 1);
    OK(amx_message_free(segment, &message));
  }
  amx_receiver_close(receiver);
  amx_channel_close(channel);
  amx_segment_close(segment);
}
