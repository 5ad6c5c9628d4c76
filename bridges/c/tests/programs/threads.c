/* Handles are any thread's: four threads send through one handle, four receive through another, and each has errors
   of its own; four call a service that two serve through one handle. */
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

enum { SERVERS = 2, CALLS = 500 };

static amx_service *service;
static amx_server *server;

static void *serve(void *nothing) {
  (void)nothing;
  for (;;) {
    amx_request *request;
    amx_message response;
    uint8_t *data;
    size_t size;
    amx_status status = amx_server_next(server, LONG, &request, &data, &size);
    if (status == AMX_CLOSED || status == AMX_DISCONNECTED) return NULL;
    OK(status);
    HOLDS(size == 4);
    if (data[0] == 7) { /* it is not answered */
      amx_request_close(request);
      continue;
    }
    OK(amx_request_allocate(request, 2 * size, &response));
    memcpy(response.data, data, size);
    memcpy(response.data + size, data, size);
    OK(amx_request_respond(request, &response));
    HOLDS(response.data == NULL);
    OK(amx_message_allocate(segment, 1, &response));
    ENDS(AMX_BAD_ARGUMENT, amx_request_respond(request, &response)); /* once */
    ENDS(AMX_BAD_ARGUMENT, amx_request_allocate(request, 1, &response));
    OK(amx_message_free(segment, &response));
    amx_request_close(request);
  }
}

static void *ask(void *first) {
  amx_client *client;
  OK(amx_client_open(service, &client));
  for (uint32_t k = 0; k < CALLS; k++) {
    uint32_t number = (uint32_t)(uintptr_t)first + k;
    amx_message request, response;
    if (k % 2) OK(amx_client_allocate(client, 4, &request));
    else OK(amx_message_allocate(segment, 4, &request));
    memcpy(request.data, &number, 4);
    int unanswered = request.data[0] == 7;
    ENDS(unanswered ? AMX_DISCONNECTED : AMX_OK, amx_client_call(client, &request, LONG, &response));
    HOLDS(request.data == NULL);
    if (unanswered) continue;
    HOLDS(response.size == 8 && memcmp(response.data, &number, 4) == 0 && memcmp(response.data + 4, &number, 4) == 0);
    OK(amx_message_free(segment, &response));
  }
  amx_client_close(client);
  return NULL;
}

static void calls(void) {
  OK(amx_service_open(segment, "twice", 0, &service));
  OK(amx_server_open(service, &server));
  pthread_t threads[THREADS + SERVERS];
  for (uintptr_t t = 0; t < THREADS; t++) HOLDS(pthread_create(&threads[t], NULL, ask, (void *)(t * CALLS)) == 0);
  for (int t = 0; t < SERVERS; t++) HOLDS(pthread_create(&threads[THREADS + t], NULL, serve, NULL) == 0);
  for (int t = 0; t < THREADS; t++) HOLDS(pthread_join(threads[t], NULL) == 0);
  OK(amx_service_remove(service));
  for (int t = 0; t < SERVERS; t++) HOLDS(pthread_join(threads[THREADS + t], NULL) == 0);
  amx_server_close(server);
  amx_service_close(service);
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
  calls();
  amx_stats stats;
  OK(amx_segment_stats(segment, &stats));
  HOLDS(stats.live_blocks == 0);
  OK(amx_segment_unlink(segment));
  amx_segment_close(segment);
}
