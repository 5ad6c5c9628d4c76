/* Every call: what it does, and what it does with null, with what is not there, and with what was used before. */
#include "check.h"
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

static amx_segment *segment;

static amx_message message(const char *text) {
  amx_message made;
  OK(amx_message_allocate(segment, strlen(text), &made));
  memcpy(made.data, text, made.size);
  return made;
}

static int is(const void *data, size_t size, const char *text) {
  return size == strlen(text) && memcmp(data, text, size) == 0;
}

static void segments(const char *name) {
  amx_options options = {.name = name};
  amx_segment *other;
  ENDS(AMX_NOT_FOUND, amx_segment_attach(&options, &segment));
  ENDS(AMX_BAD_ARGUMENT, amx_segment_create(&options, &segment)); /* no size */
  ENDS(AMX_BAD_ARGUMENT, amx_segment_create(NULL, &segment));
  options.size = 4 << 20;
  options.participants = 64;
  options.mode = 0600;
  ENDS(AMX_BAD_ARGUMENT, amx_segment_create(&options, NULL));
  OK(amx_segment_create(&options, &segment));
  ENDS(AMX_EXISTS, amx_segment_create(&options, &other));
  OK(amx_segment_open_or_create(&options, &other));
  amx_recovered recovered;
  OK(amx_segment_reap(other, &recovered));
  OK(amx_segment_reap(other, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_segment_reap(NULL, NULL));
  HOLDS(recovered.participants == 0 && recovered.live_blocks == 0);
  amx_segment_close(other);
  amx_segment_close(NULL);
  options.path = "\xff";
  ENDS(AMX_BAD_ARGUMENT, amx_segment_attach(&options, &other));
  amx_stats stats;
  OK(amx_segment_stats(segment, &stats));
  HOLDS(stats.live_blocks == 0 && stats.live_bytes == 0 && stats.offset_unit == 1);
  HOLDS(stats.free_bytes == stats.sector_bytes && stats.largest_free == stats.free_bytes);
  ENDS(AMX_BAD_ARGUMENT, amx_segment_stats(segment, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_segment_unlink(NULL));
}

static void blocks(void) {
  amx_block block;
  uint8_t *address, *again;
  size_t size;
  OK(amx_block_allocate(segment, 100, 0, &block, &address));
  memset(address, 7, 100);
  OK(amx_block_address(segment, block, &again, &size));
  HOLDS(again == address && size >= 100);
  OK(amx_block_hand_over(segment, block));
  OK(amx_block_adopt(segment, block));
  OK(amx_block_free(segment, block));
  ENDS(AMX_NOT_LIVE, amx_block_free(segment, block));
  ENDS(AMX_NOT_LIVE, amx_block_address(segment, block, NULL, NULL));
  ENDS(AMX_NOT_LIVE, amx_block_hand_over(segment, block));
  ENDS(AMX_NOT_LIVE, amx_block_adopt(segment, block));
  OK(amx_block_allocate(segment, 100, 256, &block, &address));
  HOLDS((uintptr_t)address % 256 == 0);
  OK(amx_block_free(segment, block));
  block.offset += 1;
  ENDS(AMX_BAD_OFFSET, amx_block_free(segment, block));
  ENDS(AMX_BAD_ARGUMENT, amx_block_allocate(segment, 100, 3, &block, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_block_allocate(segment, 0, 0, &block, NULL));
  ENDS(AMX_TOO_LARGE, amx_block_allocate(segment, (size_t)1 << 40, 0, &block, NULL));
  amx_block second;
  OK(amx_block_allocate(segment, 2 << 20, 0, &block, NULL));
  ENDS(AMX_OUT_OF_MEMORY, amx_block_allocate(segment, 2 << 20, 0, &second, NULL));
  OK(amx_block_free(segment, block));
  OK(amx_block_allocate(segment, 1000, 0, &block, &address));
  memset(address, 9, 1000);
  amx_block before = block;
  OK(amx_block_resize(segment, &block, 100000, 64, &again));
  HOLDS((uintptr_t)again % 64 == 0 && again[0] == 9 && again[999] == 9);
  ENDS(AMX_NOT_LIVE, amx_block_free(segment, before));
  ENDS(AMX_NOT_LIVE, amx_block_resize(segment, &before, 10, 0, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_block_resize(segment, &block, 0, 0, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_block_resize(segment, &block, 10, 3, NULL));
  ENDS(AMX_TOO_LARGE, amx_block_resize(segment, &block, (size_t)1 << 40, 0, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_block_resize(segment, NULL, 10, 0, NULL));
  OK(amx_block_resize(segment, &block, 10, 0, &again));
  HOLDS(again[0] == 9 && again[9] == 9);
  OK(amx_block_free(segment, block));
  ENDS(AMX_BAD_ARGUMENT, amx_block_allocate(NULL, 100, 0, &block, NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_block_allocate(segment, 100, 0, NULL, NULL));
}

static void messages(void) {
  amx_message made = message("what is where it lies"), copy = made, taken;
  amx_ref reference;
  char text[64];
  size_t size;
  HOLDS((uintptr_t)made.data % 16 == 0);
  OK(amx_message_truncate(segment, &made, 4));
  HOLDS(is(made.data, made.size, "what"));
  OK(amx_message_hand_over(segment, &made, &reference));
  HOLDS(made.data == NULL && made.size == 0);
  ENDS(AMX_BAD_ARGUMENT, amx_message_hand_over(segment, &made, &reference));
  ENDS(AMX_OWNED, amx_message_free(segment, &copy)); /* a copy of what was let go */
  OK(amx_ref_read(segment, reference, (uint8_t *)text, sizeof text, &size));
  HOLDS(is(text, size, "what"));
  ENDS(AMX_BUFFER_TOO_SMALL, amx_ref_read(segment, reference, (uint8_t *)text, 3, &size));
  HOLDS(size == 4);
  ENDS(AMX_BAD_ARGUMENT, amx_ref_read(segment, reference, NULL, 3, &size));
  ENDS(AMX_BAD_ARGUMENT, amx_ref_read(segment, reference, (uint8_t *)text, 4, NULL));
  OK(amx_message_adopt(segment, reference, &taken));
  HOLDS(is(taken.data, taken.size, "what"));
  ENDS(AMX_OWNED, amx_message_adopt(segment, reference, &made));
  ENDS(AMX_OWNED, amx_ref_free(segment, reference));
  OK(amx_message_free(segment, &taken));
  ENDS(AMX_BAD_ARGUMENT, amx_message_free(segment, &taken));
  ENDS(AMX_NOT_LIVE, amx_message_free(segment, &copy)); /* a copy of what was freed */
  ENDS(AMX_NOT_LIVE, amx_message_adopt(segment, reference, &taken));
  made = message("nobody's");
  OK(amx_message_hand_over(segment, &made, &reference));
  OK(amx_ref_free(segment, reference));
  ENDS(AMX_NOT_LIVE, amx_ref_free(segment, reference));
  made = message("");
  HOLDS(made.data != NULL && made.size == 0);
  OK(amx_message_free(segment, &made));
  ENDS(AMX_TOO_LARGE, amx_message_allocate(segment, SIZE_MAX, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_message_allocate(NULL, 1, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_message_truncate(segment, NULL, 1));
}

static void names(void) {
  amx_message made = message("published"), taken;
  amx_ref reference;
  char text[64];
  size_t size;
  OK(amx_name_publish(segment, "name", &made));
  HOLDS(made.data == NULL);
  made = message("again");
  ENDS(AMX_NAME_TAKEN, amx_name_publish(segment, "name", &made));
  HOLDS(made.data == NULL); /* freed */
  OK(amx_name_lookup(segment, "name", &reference));
  OK(amx_ref_read(segment, reference, (uint8_t *)text, sizeof text, &size));
  HOLDS(is(text, size, "published"));
  OK(amx_name_take(segment, "name", &taken));
  HOLDS(is(taken.data, taken.size, "published"));
  ENDS(AMX_NAME_UNKNOWN, amx_name_take(segment, "name", &made));
  ENDS(AMX_NAME_UNKNOWN, amx_name_lookup(segment, "name", &reference));
  OK(amx_name_publish(segment, "name", &taken));
  OK(amx_name_lookup(segment, "name", &reference));
  OK(amx_name_withdraw(segment, "name"));
  ENDS(AMX_NAME_UNKNOWN, amx_name_withdraw(segment, "name"));
  OK(amx_ref_free(segment, reference));
  ENDS(AMX_BAD_ARGUMENT, amx_name_lookup(segment, NULL, &reference));
  ENDS(AMX_BAD_ARGUMENT, amx_name_lookup(segment, "\xff\xfe", &reference));
  ENDS(AMX_BAD_ARGUMENT, amx_name_lookup(segment, "", &reference));
}

static void channels(void) {
  amx_channel *channel, *other;
  amx_sender *sender;
  amx_receiver *receiver;
  amx_readable *readable;
  amx_message made = message("first"), got;
  ENDS(AMX_NAME_UNKNOWN, amx_channel_open(segment, "queue", 0, &channel));
  ENDS(AMX_BAD_ARGUMENT, amx_channel_open(segment, "queue", (size_t)1 << 21, &channel));
  OK(amx_channel_open(segment, "queue", 2, &channel));
  OK(amx_channel_open(segment, "queue", 0, &other));
  OK(amx_sender_open(channel, &sender));
  OK(amx_receiver_open(other, &receiver));
  amx_channel_close(other);
  ENDS(AMX_EMPTY, amx_receiver_try_recv(receiver, &got));
  ENDS(AMX_TIMEOUT, amx_receiver_recv(receiver, &got, 1000000));
  OK(amx_receiver_readable(receiver, &readable));
  amx_message copy = made;
  OK(amx_sender_try_send(sender, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_sender_try_send(sender, &made));
  ENDS(AMX_NOT_LIVE, amx_sender_try_send(sender, &copy)); /* a copy of what was sent */
  ENDS(AMX_NOT_LIVE, amx_message_free(segment, &copy));
  struct pollfd waits = {.fd = amx_readable_fd(readable), .events = POLLIN};
  HOLDS(poll(&waits, 1, 60000) == 1);
  OK(amx_readable_arm(readable));
  HOLDS(amx_channel_length(channel) == 1);
  made = message("second");
  OK(amx_sender_send(sender, &made, SECOND));
  made = message("third");
  ENDS(AMX_FULL, amx_sender_try_send(sender, &made));
  ENDS(AMX_TIMEOUT, amx_sender_send(sender, &made, 1000000));
  HOLDS(is(made.data, made.size, "third")); /* still ours */
  OK(amx_receiver_recv(receiver, &got, LONG));
  HOLDS(is(got.data, got.size, "first"));
  OK(amx_message_free(segment, &got));
  OK(amx_sender_try_send(sender, &made));
  OK(amx_channel_end(channel));
  made = message("late");
  ENDS(AMX_CLOSED, amx_sender_try_send(sender, &made));
  OK(amx_message_free(segment, &made));
  OK(amx_receiver_try_recv(receiver, &got));
  HOLDS(is(got.data, got.size, "second"));
  amx_readable_close(readable);
  amx_receiver_close(receiver); /* what it received is still ours */
  HOLDS(is(got.data, got.size, "second"));
  OK(amx_message_free(segment, &got));
  OK(amx_channel_remove(channel));
  amx_sender_close(sender);
  amx_channel_close(channel); /* the third message goes with it */
  HOLDS(amx_channel_length(NULL) == 0 && amx_readable_fd(NULL) == -1);
  ENDS(AMX_BAD_ARGUMENT, amx_channel_end(NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_channel_remove(NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_receiver_recv(NULL, &got, 0));
}

static void topics(void) {
  amx_topic *topic;
  amx_subscriber *subscriber;
  amx_readable *readable;
  amx_message made = message("one");
  const uint8_t *data, *again;
  size_t size;
  OK(amx_topic_open(segment, "topic", 2, 1, &topic));
  OK(amx_topic_readable(topic, &readable));
  OK(amx_subscriber_open(topic, 0, &subscriber));
  amx_subscriber *second;
  ENDS(AMX_NO_PLACE, amx_subscriber_open(topic, 0, &second));
  ENDS(AMX_TIMEOUT, amx_subscriber_next(subscriber, 0, &data, &size));
  ENDS(AMX_EMPTY, amx_subscriber_done(subscriber));
  OK(amx_topic_try_publish(topic, &made));
  struct pollfd waits = {.fd = amx_readable_fd(readable), .events = POLLIN};
  HOLDS(poll(&waits, 1, 60000) == 1);
  made = message("two");
  OK(amx_topic_publish(topic, &made, SECOND));
  made = message("three");
  ENDS(AMX_FULL, amx_topic_try_publish(topic, &made));
  ENDS(AMX_TIMEOUT, amx_topic_publish(topic, &made, 1000000));
  OK(amx_subscriber_next(subscriber, LONG, &data, &size));
  HOLDS(is(data, size, "one"));
  OK(amx_subscriber_next(subscriber, 0, &again, &size));
  HOLDS(again == data); /* until it is done with */
  OK(amx_subscriber_done(subscriber));
  OK(amx_topic_try_publish(topic, &made));
  OK(amx_subscriber_next(subscriber, 0, &data, &size));
  HOLDS(is(data, size, "two"));
  HOLDS(amx_topic_published(topic) == 3 && amx_topic_published(NULL) == 0);
  OK(amx_subscriber_done(subscriber));
  amx_channel *channel;
  ENDS(AMX_WRONG_TYPE, amx_channel_open(segment, "topic", 2, &channel));
  OK(amx_topic_remove(topic));
  OK(amx_subscriber_next(subscriber, 0, &data, &size));
  HOLDS(is(data, size, "three"));
  OK(amx_subscriber_done(subscriber));
  ENDS(AMX_CLOSED, amx_subscriber_next(subscriber, LONG, &data, &size));
  amx_subscriber_close(subscriber);
  amx_readable_close(readable);
  amx_topic_close(topic);
  ENDS(AMX_BAD_ARGUMENT, amx_subscriber_next(NULL, 0, &data, &size));
}

static void boards(void) {
  amx_board *board;
  uint8_t buffer[8];
  size_t size = 0;
  uint64_t seen = 0;
  OK(amx_board_open(segment, "board", &board));
  ENDS(AMX_EMPTY, amx_board_get(board, buffer, sizeof buffer, &size));
  ENDS(AMX_TIMEOUT, amx_board_changed(board, &seen, 1000000, buffer, sizeof buffer, &size));
  OK(amx_board_set(board, (const uint8_t *)"ab", 2));
  OK(amx_board_changed(board, &seen, LONG, buffer, sizeof buffer, &size));
  HOLDS(is(buffer, size, "ab"));
  ENDS(AMX_TIMEOUT, amx_board_changed(board, &seen, 0, buffer, sizeof buffer, &size));
  amx_message made = message("longer than that");
  OK(amx_board_set_message(board, &made));
  ENDS(AMX_BUFFER_TOO_SMALL, amx_board_get(board, buffer, sizeof buffer, &size));
  HOLDS(size == 16);
  ENDS(AMX_BUFFER_TOO_SMALL, amx_board_changed(board, &seen, 0, buffer, sizeof buffer, &size));
  OK(amx_board_set(board, NULL, 0));
  OK(amx_board_changed(board, &seen, 0, buffer, sizeof buffer, &size));
  HOLDS(size == 0);
  ENDS(AMX_BAD_ARGUMENT, amx_board_set(board, NULL, 1));
  ENDS(AMX_BAD_ARGUMENT, amx_board_set(NULL, buffer, 1));
  OK(amx_board_remove(board));
  ENDS(AMX_CLOSED, amx_board_set(board, buffer, 1));
  amx_board_close(board);
}

static const uint8_t *key(const char *text) { return (const uint8_t *)text; }

static void count(void *context, const uint8_t *found, size_t size) {
  HOLDS(size == 1 && (*found == 'a' || *found == 'b'));
  *(int *)context += 1;
}

static void maps(void) {
  amx_map *map;
  amx_entry *entry, *second;
  amx_message made, got;
  const uint8_t *data;
  uint8_t buffer[8];
  size_t size;
  int keys = 0;
  ENDS(AMX_BAD_ARGUMENT, amx_map_open(segment, "map", (size_t)1 << 20, 0, &map));
  ENDS(AMX_BAD_ARGUMENT, amx_map_open(NULL, "map", 0, 0, &map));
  OK(amx_map_open(segment, "map", 8, 2, &map));
  ENDS(AMX_NAME_UNKNOWN, amx_map_get(map, key("a"), 1, buffer, sizeof buffer, &size));
  ENDS(AMX_NAME_UNKNOWN, amx_map_take(map, key("a"), 1, 0, &got));
  OK(amx_map_allocate(map, key("a"), 1, 3, &made));
  memcpy(made.data, "one", 3);
  ENDS(AMX_NAME_UNKNOWN, amx_map_replace(map, key("a"), 1, &made));
  uint8_t *where = made.data;
  OK(amx_map_insert_new(map, key("a"), 1, &made));
  HOLDS(made.data == NULL);
  ENDS(AMX_BAD_ARGUMENT, amx_map_insert(map, key("a"), 1, &made));
  OK(amx_map_read(map, key("a"), 1, &entry, &data, &size));
  HOLDS(data == where && is(data, size, "one")); /* without a copy */
  made = message("two"); /* without room for its key: it may be copied */
  ENDS(AMX_NAME_TAKEN, amx_map_insert_new(map, key("a"), 1, &made));
  OK(amx_map_replace(map, key("a"), 1, &made));
  HOLDS(is(data, size, "one")); /* who reads it reads it still */
  OK(amx_map_get(map, key("a"), 1, buffer, sizeof buffer, &size));
  HOLDS(is(buffer, size, "two"));
  ENDS(AMX_BUFFER_TOO_SMALL, amx_map_get(map, key("a"), 1, buffer, 2, &size));
  HOLDS(size == 3);
  amx_entry_close(entry);
  OK(amx_map_read(map, key("a"), 1, &entry, &data, &size));
  OK(amx_map_take(map, key("a"), 1, 1000000, &got)); /* a copy: it is read */
  HOLDS(got.data != data && is(got.data, got.size, "two") && is(data, size, "two"));
  OK(amx_map_insert(map, key("b"), 1, &got));
  OK(amx_map_read(map, key("b"), 1, &second, &data, &size));
  ENDS(AMX_NO_PLACE, amx_map_get(map, key("b"), 1, buffer, sizeof buffer, &size));
  amx_entry_close(second);
  amx_entry_close(entry);
  amx_entry_close(NULL);
  OK(amx_map_take(map, key("b"), 1, SECOND, &got));
  OK(amx_map_insert(map, key("a"), 1, &got));
  made = message("three");
  OK(amx_map_insert(map, key("b"), 1, &made));
  HOLDS(amx_map_length(map) == 2 && amx_map_length(NULL) == 0);
  OK(amx_map_keys(map, count, &keys));
  HOLDS(keys == 2);
  ENDS(AMX_BAD_ARGUMENT, amx_map_keys(map, NULL, NULL));
  static uint8_t large[5000];
  made = message("four");
  ENDS(AMX_BAD_ARGUMENT, amx_map_insert(map, large, sizeof large, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_map_insert(map, NULL, 1, &made));
  HOLDS(is(made.data, made.size, "four"));
  OK(amx_map_remove(map));
  ENDS(AMX_CLOSED, amx_map_insert(map, key("a"), 1, &made));
  OK(amx_message_free(segment, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_map_remove(NULL));
  ENDS(AMX_BAD_ARGUMENT, amx_map_allocate(NULL, key("a"), 1, 1, &made));
  amx_map_close(map); /* what is in it goes with it */
}

static void services(void) {
  amx_service *service;
  amx_client *client;
  amx_server *server;
  amx_request *request;
  amx_message made, got;
  uint8_t *data;
  size_t size;
  ENDS(AMX_BAD_ARGUMENT, amx_service_open(segment, "service", (size_t)1 << 21, &service));
  OK(amx_service_open(segment, "service", 2, &service));
  amx_map *map;
  ENDS(AMX_WRONG_TYPE, amx_map_open(segment, "service", 0, 0, &map));
  OK(amx_client_open(service, &client));
  OK(amx_server_open(service, &server));
  ENDS(AMX_TIMEOUT, amx_server_next(server, 1000000, &request, &data, &size));
  OK(amx_client_allocate(client, 4, &made));
  memcpy(made.data, "call", 4);
  ENDS(AMX_TIMEOUT, amx_client_call(client, &made, 1000000, &got));
  HOLDS(made.data == NULL); /* a server may have it */
  ENDS(AMX_BAD_ARGUMENT, amx_client_call(client, &made, 0, &got));
  ENDS(AMX_TIMEOUT, amx_server_next(server, 1000000, &request, &data, &size)); /* nobody waits for it */
  amx_server_close(server);
  made = message("again");
  ENDS(AMX_DISCONNECTED, amx_client_call(client, &made, LONG, &got));
  ENDS(AMX_BAD_ARGUMENT, amx_client_call(NULL, &made, 0, &got));
  ENDS(AMX_BAD_ARGUMENT, amx_server_next(NULL, 0, &request, &data, &size));
  ENDS(AMX_BAD_ARGUMENT, amx_request_respond(NULL, &made));
  ENDS(AMX_BAD_ARGUMENT, amx_request_allocate(NULL, 1, &got));
  if (made.data != NULL) OK(amx_message_free(segment, &made));
  amx_client_close(client);
  OK(amx_service_remove(service));
  amx_service_close(service);
}

/* A request and its server's handle of it. */
static amx_responses *asked(amx_client *client, amx_server *server, amx_request **request) {
  amx_responses *responses;
  uint8_t *data;
  size_t size;
  amx_message made = message("count");
  OK(amx_client_stream(client, &made, LONG, &responses));
  HOLDS(made.data == NULL);
  OK(amx_server_next(server, LONG, request, &data, &size));
  HOLDS(amx_request_is_awaited(*request));
  return responses;
}

static void streams(void) {
  enum { KEPT = 16 };
  amx_service *service;
  amx_client *client;
  amx_server *server;
  amx_request *request;
  amx_message made, got;
  OK(amx_service_open(segment, "streams", 0, &service));
  OK(amx_client_open(service, &client));
  OK(amx_server_open(service, &server));
  amx_responses *responses = asked(client, server, &request), *other;
  ENDS(AMX_TIMEOUT, amx_responses_next(responses, 1000000, &got));
  made = message("one at a time");
  ENDS(AMX_BUSY, amx_client_stream(client, &made, LONG, &other));
  ENDS(AMX_BUSY, amx_client_call(client, &made, LONG, &got));
  HOLDS(made.data != NULL);
  for (int k = 0; k < KEPT; k++) {
    if (k > 0) OK(amx_request_allocate(request, 1, &made));
    made.data[0] = (uint8_t)k;
    OK(amx_request_send(request, &made, LONG));
    HOLDS(made.data == NULL);
  }
  made = message("more than it keeps");
  ENDS(AMX_FULL, amx_request_send(request, &made, 1000000));
  for (int k = 0; k < KEPT; k++) {
    OK(amx_responses_next(responses, LONG, &got));
    HOLDS(got.data[0] == k);
    OK(amx_message_free(segment, &got));
  }
  OK(amx_request_finish(request));
  ENDS(AMX_BAD_ARGUMENT, amx_request_finish(request));
  ENDS(AMX_BAD_ARGUMENT, amx_request_send(request, &made, LONG));
  HOLDS(made.data != NULL && !amx_request_is_awaited(request) && !amx_request_is_awaited(NULL));
  amx_request_close(request);
  ENDS(AMX_CLOSED, amx_responses_next(responses, LONG, &got));
  ENDS(AMX_CLOSED, amx_responses_next(responses, LONG, &got));
  amx_responses_close(responses);
  /* The server drops it behind the first. */
  responses = asked(client, server, &request);
  OK(amx_request_send(request, &made, LONG));
  amx_request_close(request);
  OK(amx_responses_next(responses, LONG, &got));
  OK(amx_message_free(segment, &got));
  ENDS(AMX_DISCONNECTED, amx_responses_next(responses, LONG, &got));
  amx_responses_close(responses);
  /* Whoever asked goes; its handle outlives the client's. */
  responses = asked(client, server, &request);
  amx_client_close(client);
  HOLDS(amx_request_is_awaited(request));
  amx_responses_close(responses);
  made = message("late");
  HOLDS(!amx_request_is_awaited(request));
  ENDS(AMX_DISCONNECTED, amx_request_send(request, &made, LONG));
  OK(amx_message_free(segment, &made));
  ENDS(AMX_DISCONNECTED, amx_request_finish(request));
  amx_request_close(request);
  ENDS(AMX_BAD_ARGUMENT, amx_client_stream(NULL, &made, 0, &other));
  ENDS(AMX_BAD_ARGUMENT, amx_responses_next(NULL, 0, &got));
  ENDS(AMX_BAD_ARGUMENT, amx_request_send(NULL, &made, 0));
  ENDS(AMX_BAD_ARGUMENT, amx_request_finish(NULL));
  amx_responses_close(NULL);
  amx_server_close(server);
  OK(amx_service_remove(service));
  amx_service_close(service);
}

static void events(void) {
  amx_event *event;
  OK(amx_event_open(segment, "event", &event));
  ENDS(AMX_TIMEOUT, amx_event_wait(event, true, 1000000));
  OK(amx_event_set(event));
  OK(amx_event_set(event));
  OK(amx_event_wait(event, false, LONG));
  OK(amx_event_wait(event, true, LONG));
  ENDS(AMX_TIMEOUT, amx_event_wait(event, true, 0));
  ENDS(AMX_BAD_ARGUMENT, amx_event_set(NULL));
  OK(amx_event_remove(event));
  amx_event_close(event);
}

/* A forked child has no part in what its parent has. */
static void forks(void) {
  amx_message made = message("the parent's");
  pid_t child = fork();
  if (child == 0) {
    amx_message other;
    ENDS(AMX_FORKED, amx_message_allocate(segment, 1, &other));
    _exit(0);
  }
  int status;
  HOLDS(waitpid(child, &status, 0) == child && status == 0);
  OK(amx_message_free(segment, &made));
}

int main(int argc, char **argv) {
  HOLDS(argc == 2);
  HOLDS(strcmp(amx_last_error(), "") == 0);
  HOLDS(strcmp(amx_status_name(AMX_PANIC), "AMX_PANIC") == 0 && strcmp(amx_status_name(99), "AMX_UNKNOWN") == 0);
  segments(argv[1]);
  blocks();
  messages();
  names();
  channels();
  topics();
  boards();
  maps();
  services();
  streams();
  events();
  forks();
  amx_stats stats;
  OK(amx_segment_stats(segment, &stats));
  HOLDS(stats.live_blocks == 0); /* nothing is left */
  OK(amx_segment_unlink(segment));
  amx_segment_close(segment);
}
