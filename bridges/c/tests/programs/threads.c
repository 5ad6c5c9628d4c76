/* Handles are any thread's: four threads send through one handle, four receive through another, and each has errors
   of its own. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4, EACH = 5000 };

static amx_segment *segment;
static amx_sender *sender;
static amx_receiver *receiver;
static atomic_uchar seen[THREADS * EACH];

static void *send(void *first) {
  for (uint32_t k = 0; k < EACH; k++) {
    uint32_t number = (uint32_t)(uintptr_t)first + k;
    amx_message message;
    OK(amx_message_allocate(segment, 4 + number % 200, &message));
    memcpy(message.data, &number, 4);
    OK(amx_sender_send(sender, &message, LONG));
  }
  amx_message none = {0};
  ENDS(AMX_BAD_ARGUMENT, amx_sender_send(sender, &none, LONG));
  HOLDS(strstr(amx_last_error(), "no message") != NULL);
  return NULL;
}

static void *receive(void *nothing) {
  (void)nothing;
  HOLDS(strcmp(amx_last_error(), "") == 0);
  for (uint32_t k = 0; k < EACH; k++) {
    amx_message message;
    uint32_t number;
    OK(amx_receiver_recv(receiver, &message, LONG));
    memcpy(&number, message.data, 4);
    HOLDS(message.size == 4 + number % 200 && atomic_fetch_add(&seen[number], 1) == 0);
    OK(amx_message_free(segment, &message));
  }
  HOLDS(strcmp(amx_last_error(), "") == 0);
  return NULL;
}

int main(int argc, char **argv) {
  HOLDS(argc == 2);
  amx_options options = {.name = argv[1], .size = 4 << 20};
  amx_channel *channel;
  OK(amx_segment_create(&options, &segment));
  OK(amx_channel_open(segment, "numbers", 64, &channel));
  OK(amx_sender_open(channel, &sender));
  OK(amx_receiver_open(channel, &receiver));
  pthread_t threads[2 * THREADS];
  for (uintptr_t t = 0; t < THREADS; t++) {
    HOLDS(pthread_create(&threads[t], NULL, receive, NULL) == 0);
    HOLDS(pthread_create(&threads[THREADS + t], NULL, send, (void *)(t * EACH)) == 0);
  }
  for (int t = 0; t < 2 * THREADS; t++) HOLDS(pthread_join(threads[t], NULL) == 0);
  for (int number = 0; number < THREADS * EACH; number++) HOLDS(seen[number] == 1);
  amx_receiver_close(receiver);
  amx_sender_close(sender);
  OK(amx_channel_remove(channel));
  amx_channel_close(channel);
  amx_stats stats;
  OK(amx_segment_stats(segment, &stats));
  HOLDS(stats.live_blocks == 0);
  OK(amx_segment_unlink(segment));
  amx_segment_close(segment);
}
