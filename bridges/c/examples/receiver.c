/* Receives what examples/sender.c sends, in another process, and removes the segment. */
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
  amx_options options = {.name = argc > 1 ? argv[1] : "c-example"};
  amx_segment *segment;
  amx_channel *channel;
  amx_receiver *receiver;
  check(amx_segment_attach(&options, &segment));
  check(amx_channel_open(segment, "greetings", 0, &channel));
  check(amx_receiver_open(channel, &receiver));
  amx_message message;
  amx_status status;
  while ((status = amx_receiver_recv(receiver, &message, 100000000)) == AMX_OK) {
    printf("%.*s\n", (int)message.size, (char *)message.data); /* where it was written */
    check(amx_message_free(segment, &message));
  }
  if (status != AMX_DISCONNECTED && status != AMX_TIMEOUT) check(status);
  amx_receiver_close(receiver);
  amx_channel_close(channel);
  check(amx_segment_unlink(segment)); /* the segment's name; its memory goes with its last user */
  amx_segment_close(segment);
}
