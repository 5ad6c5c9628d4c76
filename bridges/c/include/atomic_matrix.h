/*
 * AtomicMatrix for C: memory that several processes allocate, pass on and free, and what they talk with.
 *
 * Made by cbindgen from bridges/c/src: do not edit. README.md beside it has the rules and a first program.
 */

#ifndef ATOMIC_MATRIX_H
#define ATOMIC_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a call ended. A failed call has changed nothing, unless its page says otherwise;
// amx_last_error() has the text.
typedef enum amx_status {
  // It did what it should.
  AMX_OK = 0,
  // There is nothing yet: no message, no value.
  AMX_EMPTY = 1,
  // There is no room now.
  AMX_FULL = 2,
  // The time was over before it could be done.
  AMX_TIMEOUT = 3,
  // Nothing will come any more: the structure was closed or removed, or a stream has ended.
  AMX_CLOSED = 4,
  // Nobody is at the other end any more.
  AMX_DISCONNECTED = 5,
  // An argument is null, too large, not UTF-8, or an option that can't be used.
  AMX_BAD_ARGUMENT = 6,
  // The buffer is too small; the size says how much is needed.
  AMX_BUFFER_TOO_SMALL = 7,
  // The segment has no room for it.
  AMX_OUT_OF_MEMORY = 8,
  // It is more than the whole segment has.
  AMX_TOO_LARGE = 9,
  // The block was freed before, or its place is another's by now.
  AMX_NOT_LIVE = 10,
  // No block of this segment begins there.
  AMX_BAD_OFFSET = 11,
  // It is of another segment.
  AMX_FOREIGN = 12,
  // What is there is of another type.
  AMX_WRONG_TYPE = 13,
  // Somebody else has it, or it is in a structure, or it is just changing hands.
  AMX_OWNED = 14,
  // Every participant slot, subscriber's place or handle is taken.
  AMX_NO_PLACE = 15,
  // The name, or the key, is taken.
  AMX_NAME_TAKEN = 16,
  // Nothing has that name, or that key.
  AMX_NAME_UNKNOWN = 17,
  // The directory has no entry left.
  AMX_DIRECTORY_FULL = 18,
  // A segment of that name exists.
  AMX_EXISTS = 19,
  // No segment of that name exists.
  AMX_NOT_FOUND = 20,
  // The system refused it for want of a permission.
  AMX_PERMISSION = 21,
  // The file is no segment that this library can use: of another version, size or kind.
  AMX_NOT_A_SEGMENT = 22,
  // The segment is damaged.
  AMX_DAMAGED = 23,
  // This process was forked from the one that attached: attach anew.
  AMX_FORKED = 24,
  // The object is in use by another thread, and serves one at a time.
  AMX_BUSY = 25,
  // The system failed.
  AMX_SYSTEM = 26,
  // Another error: the text says which.
  AMX_OTHER = 27,
  // The library has a fault, which ended at the boundary.
  AMX_PANIC = 28,
} amx_status;

// A board of bytes: what a Rust program opens as `board::<[u8]>`. Any thread may use it, and
// several at once.
typedef struct amx_board amx_board;

// A channel of bytes: what a Rust program opens as `channel::<[u8]>`. Any thread may use it.
typedef struct amx_channel amx_channel;

// Calls, one call at a time: another thread opens a client of its own, or is told AMX_BUSY.
typedef struct amx_client amx_client;

// A value that is read where it lies: it stays as it is until this is closed, whoever replaces it or
// takes it out meanwhile.
typedef struct amx_entry amx_entry;

// An event: set or not. Any thread may use it, and several at once.
typedef struct amx_event amx_event;

// A map of bytes: what a Rust program opens as `map::<[u8]>`. Any thread may use it, and several at once.
typedef struct amx_map amx_map;

// A descriptor of this process that is readable when something may be there. It serves one thread
// at a time: AMX_BUSY.
typedef struct amx_readable amx_readable;

// Receives. Any thread may use it, and several at once: each message goes to one of them.
typedef struct amx_receiver amx_receiver;

// A request that this server works at. Any thread may use it; it is answered once.
typedef struct amx_request amx_request;

// The responses to one call, as they come. Until it is closed its client makes no other call: AMX_BUSY.
typedef struct amx_responses amx_responses;

// A process's way into a segment. Any thread may use it, and several at once; it is closed by one
// of them, last. What was opened through it goes on after that.
typedef struct amx_segment amx_segment;

// Sends. Any thread may use it, and several at once.
typedef struct amx_sender amx_sender;

// Receives requests. Any thread may use it, and several at once: each request goes to one of them.
typedef struct amx_server amx_server;

// A service with requests and responses of bytes: what a Rust program opens as
// `service::<[u8], [u8]>`. Any thread may use it.
typedef struct amx_service amx_service;

// Reads what is published. It serves one thread at a time: AMX_BUSY.
typedef struct amx_subscriber amx_subscriber;

// A topic of bytes: what a Rust program opens as `topic::<[u8]>`. Any thread may publish, and
// several at once.
typedef struct amx_topic amx_topic;

// A block's position: plain data, which means the same in every process of the segment and may
// itself lie in it. A block that was freed since is told by its generation (20 bits: kept through
// exactly a multiple of 2^20 reuses of one place it would go unnoticed).
typedef struct amx_block {
  // The offset from the segment's beginning, in steps of `offset_unit`.
  uint32_t offset;
  // Which block it is of those that were there one after the other.
  uint32_t generation;
} amx_block;

// A message in this process's hands: what a Rust program has as `Message<[u8]>`. Its bytes are
// this handle's alone, to be read and written. It is freed when this process dies, and by nothing
// else but the calls below.
//
// It may be moved to another place or thread; a copy of it is the same message, of which one may
// be used. What was sent, handed over, published or freed has `data` null.
typedef struct amx_message {
  // The first byte, aligned to 16 bytes.
  uint8_t *data;
  // Bytes that may be read and written.
  size_t size;
  // The library's own.
  uint64_t opaque[4];
} amx_message;

// What is called with each key: `context` is the caller's own, the key is good during the call.
typedef void (*amx_visit)(void *context, const uint8_t *key, size_t size);

// What leads to a message that is unowned: plain data, the same in every process of the segment.
typedef uint64_t amx_ref;

// Where a segment is, and what its maker chooses. What is 0 or null is left at its default, so
// begin with `{0}`.
typedef struct amx_options {
  // Its name, from which its place in /dev/shm follows: the same in every language.
  const char *name;
  // Its file, where it has no name, or is elsewhere than in /dev/shm.
  const char *path;
  // Bytes, to create it. To attach, 0 or what it was made with.
  uint64_t size;
  // Threads that may use it at once, to create it.
  uint32_t participants;
  // Who may attach, as for chmod(2), to create it. 0600 unless said otherwise.
  uint32_t mode;
  // Live blocks of the dead are kept until somebody adopts or frees them, rather than freed; to
  // create it.
  bool keep_orphans;
} amx_options;

// What a recovery of the dead found.
typedef struct amx_recovered {
  // Participants recovered.
  uint64_t participants;
  // Live blocks of theirs, freed or kept.
  uint64_t live_blocks;
} amx_recovered;

// What is in a segment at one moment, in bytes and blocks. Exact when nobody is inside a call.
typedef struct amx_stats {
  // Bytes of all blocks together.
  uint64_t sector_bytes;
  // Live blocks, those of structures and what is in them included.
  uint64_t live_blocks;
  // Bytes in them.
  uint64_t live_bytes;
  // Bytes that can be allocated: free, or parked for the next request of their size.
  uint64_t free_bytes;
  // Bytes of the largest free block.
  uint64_t largest_free;
  // Bytes of a step of offsets.
  uint64_t offset_unit;
} amx_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Allocates `size` bytes, aligned to `alignment` (a power of two up to 4096; 0 for 16 bytes),
// holding whatever was there before. The block is this process's: freed if it dies. `address` may
// be null. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_BAD_ARGUMENT, AMX_NO_PLACE.
enum amx_status amx_block_allocate(const struct amx_segment *segment,
                                   size_t size,
                                   size_t alignment,
                                   struct amx_block *block,
                                   uint8_t **address);

// Makes a block `size` bytes large, aligned to `alignment` (as for amx_block_allocate()): where it is, if
// this process owns it and there is room behind it, else by a copy to another place. The position is
// another one then: the one from before is stale. A block of another owner may move, too; nobody else may use it meanwhile. `address` may be
// null. AMX_NOT_LIVE, AMX_OWNED if it is in a structure, and as amx_block_allocate(): then it is as it was.
enum amx_status amx_block_resize(const struct amx_segment *segment,
                                 struct amx_block *block,
                                 size_t size,
                                 size_t alignment,
                                 uint8_t **address);

// Frees a block, whoever allocated it. AMX_NOT_LIVE if it was freed before, AMX_BAD_OFFSET,
// AMX_OWNED if it is in a structure: nothing has changed then.
enum amx_status amx_block_free(const struct amx_segment *segment, struct amx_block block);

// Where a live block lies in this process, and how many bytes it has. Either may be null.
enum amx_status amx_block_address(const struct amx_segment *segment,
                                  struct amx_block block,
                                  uint8_t **address,
                                  size_t *size);

// Gives a block up before its position is passed on: it is unowned until somebody adopts it, and
// no death frees it.
enum amx_status amx_block_hand_over(const struct amx_segment *segment, struct amx_block block);

// Makes this process the owner of a block that another passed on: freed if this one dies.
enum amx_status amx_block_adopt(const struct amx_segment *segment, struct amx_block block);

// Opens the board of that name, or makes it. AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_board_open(const struct amx_segment *segment,
                               const char *name,
                               struct amx_board **board);

// Closes the handle; the board stays.
void amx_board_close(struct amx_board *board);

// Removes the board: its name is free, nobody sets it any more, and its memory is freed after the
// last user.
enum amx_status amx_board_remove(const struct amx_board *board);

// Sets the value to a copy of these bytes. Lock-free. AMX_OUT_OF_MEMORY, AMX_CLOSED.
enum amx_status amx_board_set(const struct amx_board *board, const uint8_t *data, size_t size);

// Sets the value to a message's, which was filled where it lies. AMX_CLOSED: the message is freed then.
enum amx_status amx_board_set_message(const struct amx_board *board,
                                      struct amx_message *message);

// Copies the newest value: AMX_EMPTY if none was set. `size` is told whenever there is one;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`.
enum amx_status amx_board_get(const struct amx_board *board,
                              uint8_t *buffer,
                              size_t capacity,
                              size_t *size);

// As amx_board_get(), for a value that is not the one that `seen` says, which is waited for, for
// so many nanoseconds: AMX_TIMEOUT. `seen` is 0 at first, and says afterwards that the copied one
// was seen. What did not fit into the buffer was not seen.
enum amx_status amx_board_changed(const struct amx_board *board,
                                  uint64_t *seen,
                                  uint64_t nanoseconds,
                                  uint8_t *buffer,
                                  size_t capacity,
                                  size_t *size);

// Opens the channel of that name, or makes it, with room for `capacity` messages (rounded up to a
// power of two, at most 2^20). With a capacity of 0 it must be there: AMX_NAME_UNKNOWN.
// AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_channel_open(const struct amx_segment *segment,
                                 const char *name,
                                 size_t capacity,
                                 struct amx_channel **channel);

// Closes the handle; the channel stays, with what is in it.
void amx_channel_close(struct amx_channel *channel);

// Messages in it: exact when nobody is inside a call.
size_t amx_channel_length(const struct amx_channel *channel);

// Nobody sends any more, in any process: receivers get what is in it, then AMX_CLOSED.
enum amx_status amx_channel_end(const struct amx_channel *channel);

// Takes its name away and ends it. The last one to leave frees it, with what nobody received.
enum amx_status amx_channel_remove(const struct amx_channel *channel);

// A sender, which counts as one until it is closed or its process ends.
enum amx_status amx_sender_open(const struct amx_channel *channel, struct amx_sender **sender);

// Closes the handle.
void amx_sender_close(struct amx_sender *sender);

// Sends a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is not
// sent stays in the caller's hands.
enum amx_status amx_sender_try_send(const struct amx_sender *sender, struct amx_message *message);

// Sends a message, and waits for room for so many nanoseconds: AMX_TIMEOUT. AMX_DISCONNECTED if it
// is full and no receiver is there any more; AMX_CLOSED, AMX_FOREIGN. What is not sent stays in
// the caller's hands.
enum amx_status amx_sender_send(const struct amx_sender *sender,
                                struct amx_message *message,
                                uint64_t nanoseconds);

// A receiver, which counts as one until it is closed or its process ends.
enum amx_status amx_receiver_open(const struct amx_channel *channel,
                                  struct amx_receiver **receiver);

// Closes the handle. What it received stays the caller's.
void amx_receiver_close(struct amx_receiver *receiver);

// Receives the oldest message, if there is one now: AMX_EMPTY. Lock-free. AMX_DISCONNECTED if
// there is no sender any more either; AMX_CLOSED.
enum amx_status amx_receiver_try_recv(const struct amx_receiver *receiver,
                                      struct amx_message *message);

// Receives the oldest message, and waits for one for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED, AMX_CLOSED.
enum amx_status amx_receiver_recv(const struct amx_receiver *receiver,
                                  struct amx_message *message,
                                  uint64_t nanoseconds);

// Opens the event of that name, or makes it, not set. AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_event_open(const struct amx_segment *segment,
                               const char *name,
                               struct amx_event **event);

// Closes the handle; the event stays.
void amx_event_close(struct amx_event *event);

// Removes the event: its name is free, and its memory is freed after the last user.
enum amx_status amx_event_remove(const struct amx_event *event);

// Sets it, and wakes all who wait. Set twice, it is set.
enum amx_status amx_event_set(const struct amx_event *event);

// Waits until it is set, for so many nanoseconds: AMX_TIMEOUT. With `clear`, it is not set any
// more then, and one of those who wait got it.
enum amx_status amx_event_wait(const struct amx_event *event, bool clear, uint64_t nanoseconds);

// Opens the map of that name, or makes it for `capacity` entries (1 to 131 072; 0 for 256) and as many
// guards and calls at once as `guards` (1 to 1024; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_map_open(const struct amx_segment *segment,
                             const char *name,
                             size_t capacity,
                             uint16_t guards,
                             struct amx_map **map);

// Closes the handle; the map stays, with what is in it.
void amx_map_close(struct amx_map *map);

// Removes the map: its name is free, and its memory is freed after the last user, with what is in it.
enum amx_status amx_map_remove(const struct amx_map *map);

// Entries in it: exact when nobody is inside a call. O(places).
size_t amx_map_length(const struct amx_map *map);

// Allocates a message of `size` bytes with room for its key, which is put in without a copy.
enum amx_status amx_map_allocate(const struct amx_map *map,
                                 const uint8_t *key,
                                 size_t key_size,
                                 size_t size,
                                 struct amx_message *message);

// Puts a message under a key, and frees what was there, as soon as nobody reads it. Lock-free. AMX_FULL,
// AMX_CLOSED, AMX_FOREIGN, AMX_BAD_ARGUMENT if the key has more than 4096 bytes. What is not put in
// stays in the caller's hands. A message that amx_map_allocate() did not make may be copied.
enum amx_status amx_map_insert(const struct amx_map *map,
                               const uint8_t *key,
                               size_t key_size,
                               struct amx_message *message);

// As amx_map_insert(), if the key is not there: AMX_NAME_TAKEN. Of several who try, one succeeds.
enum amx_status amx_map_insert_new(const struct amx_map *map,
                                   const uint8_t *key,
                                   size_t key_size,
                                   struct amx_message *message);

// As amx_map_insert(), if the key is there: AMX_NAME_UNKNOWN.
enum amx_status amx_map_replace(const struct amx_map *map,
                                const uint8_t *key,
                                size_t key_size,
                                struct amx_message *message);

// Copies the value under a key: AMX_NAME_UNKNOWN if there is none. `size` is told whenever there is one;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. AMX_NO_PLACE if as many as the map was made for
// are at work.
enum amx_status amx_map_get(const struct amx_map *map,
                            const uint8_t *key,
                            size_t key_size,
                            uint8_t *buffer,
                            size_t capacity,
                            size_t *size);

// Reads the value under a key where it lies, until `entry` is closed, which takes one of the map's
// guards. AMX_NAME_UNKNOWN, AMX_NO_PLACE.
enum amx_status amx_map_read(const struct amx_map *map,
                             const uint8_t *key,
                             size_t key_size,
                             struct amx_entry **entry,
                             const uint8_t **data,
                             size_t *size);

// Closes it: its bytes are read no more.
void amx_entry_close(struct amx_entry *entry);

// Takes the value under a key out: of several who try, one gets it; AMX_NAME_UNKNOWN. Whoever reads it is
// waited for, for so many nanoseconds, and then it is a copy (AMX_OUT_OF_MEMORY: it is out, and freed).
enum amx_status amx_map_take(const struct amx_map *map,
                             const uint8_t *key,
                             size_t key_size,
                             uint64_t nanoseconds,
                             struct amx_message *message);

// Calls `visit` with each key: one that is there throughout is among them once. The map may be used
// meanwhile, also by `visit`, which throws no exception.
enum amx_status amx_map_keys(const struct amx_map *map, amx_visit visit, void *context);

// Allocates a message of `size` bytes (0 to as many as the segment has room for), which are
// whatever was there before. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_NO_PLACE.
enum amx_status amx_message_allocate(const struct amx_segment *segment,
                                     size_t size,
                                     struct amx_message *message);

// Keeps the first `size` bytes of a message. The block stays as large as it is.
enum amx_status amx_message_truncate(const struct amx_segment *segment,
                                     struct amx_message *message,
                                     size_t size);

// Frees a message. AMX_NOT_LIVE if its block was freed by another way, AMX_FOREIGN if it is of
// another segment.
enum amx_status amx_message_free(const struct amx_segment *segment, struct amx_message *message);

// Lets a message go: it is unowned until somebody takes it by the reference, and no death frees it.
enum amx_status amx_message_hand_over(const struct amx_segment *segment,
                                      struct amx_message *message,
                                      amx_ref *reference);

// Takes the message that a reference leads to: of all who try, one gets it.
// AMX_OWNED if somebody has it, AMX_NOT_LIVE if it was freed, AMX_WRONG_TYPE if it holds no bytes.
enum amx_status amx_message_adopt(const struct amx_segment *segment,
                                  amx_ref reference,
                                  struct amx_message *message);

// Copies what a reference leads to, whoever has it. `size` is told in any case;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. If somebody writes it meanwhile the copy is
// a mixture; if it is freed meanwhile: AMX_NOT_LIVE.
enum amx_status amx_ref_read(const struct amx_segment *segment,
                             amx_ref reference,
                             uint8_t *buffer,
                             size_t capacity,
                             size_t *size);

// Frees the message that a reference leads to, if it is unowned.
enum amx_status amx_ref_free(const struct amx_segment *segment, amx_ref reference);

// Publishes a message under a name of 1 to 96 bytes. It is unowned then, and stays until somebody
// takes it. AMX_NAME_TAKEN, AMX_DIRECTORY_FULL; the message is freed then.
enum amx_status amx_name_publish(const struct amx_segment *segment,
                                 const char *name,
                                 struct amx_message *message);

// A reference to the message of that name, to be read by amx_ref_read(). AMX_NAME_UNKNOWN,
// AMX_WRONG_TYPE.
enum amx_status amx_name_lookup(const struct amx_segment *segment,
                                const char *name,
                                amx_ref *reference);

// Takes the message of that name: of all who try, one gets it. The name is free again.
// AMX_NAME_UNKNOWN, AMX_WRONG_TYPE.
enum amx_status amx_name_take(const struct amx_segment *segment,
                              const char *name,
                              struct amx_message *message);

// Takes the name away. What it stood for stays. AMX_NAME_UNKNOWN.
enum amx_status amx_name_withdraw(const struct amx_segment *segment, const char *name);

// A descriptor that is readable when there may be a message. It outlives the receiver's handle.
enum amx_status amx_receiver_readable(const struct amx_receiver *receiver,
                                      struct amx_readable **readable);

// A descriptor that is readable when something may have been published, for any of the topic's
// subscribers.
enum amx_status amx_topic_readable(const struct amx_topic *topic, struct amx_readable **readable);

// The descriptor's number, to be waited at and not to be read or closed; -1 if there is none.
int32_t amx_readable_fd(const struct amx_readable *readable);

// It is not readable any more, until something is put from now on, or for 50 ms. Call it before
// you take what is there, not behind.
enum amx_status amx_readable_arm(const struct amx_readable *readable);

// Closes the descriptor.
void amx_readable_close(struct amx_readable *readable);

// Makes a segment; its name must be free. AMX_EXISTS, AMX_BAD_ARGUMENT, AMX_PERMISSION, AMX_SYSTEM.
enum amx_status amx_segment_create(const struct amx_options *options, struct amx_segment **segment);

// Attaches to a segment, and recovers the dead in it. AMX_NOT_FOUND, AMX_NOT_A_SEGMENT, AMX_PERMISSION.
enum amx_status amx_segment_attach(const struct amx_options *options,
                                   struct amx_segment **segment);

// Attaches to a segment, or makes it, however many processes call this at the same moment.
enum amx_status amx_segment_open_or_create(const struct amx_options *options,
                                           struct amx_segment **segment);

// Closes the handle. Null is closed already.
void amx_segment_close(struct amx_segment *segment);

// Removes the segment's name: those attached go on, and nobody new comes. Its memory goes with its
// last user.
enum amx_status amx_segment_unlink(const struct amx_segment *segment);

// Recovers the dead: what they had begun is finished, and what they had is freed, or kept. It
// happens by itself when somebody attaches, before an allocation fails, and while somebody waits.
// `recovered` may be null.
enum amx_status amx_segment_reap(const struct amx_segment *segment,
                                 struct amx_recovered *recovered);

// What is in the segment. O(blocks). AMX_DAMAGED if its words contradict each other.
enum amx_status amx_segment_stats(const struct amx_segment *segment, struct amx_stats *stats);

// Opens the service of that name, or makes it, with room for `capacity` requests that wait (rounded up
// to a power of two, at most 2^20; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_service_open(const struct amx_segment *segment,
                                 const char *name,
                                 size_t capacity,
                                 struct amx_service **service);

// Closes the handle; the service stays.
void amx_service_close(struct amx_service *service);

// Removes the service: its name is free, nobody calls any more, and its memory is freed after the last user.
enum amx_status amx_service_remove(const struct amx_service *service);

// A client, which counts as one until it is closed or its process ends.
enum amx_status amx_client_open(const struct amx_service *service, struct amx_client **client);

// Closes the handle. What it received stays the caller's.
void amx_client_close(struct amx_client *client);

// Allocates a request of `size` bytes that is sent without a copy.
enum amx_status amx_client_allocate(const struct amx_client *client,
                                    size_t size,
                                    struct amx_message *request);

// Sends the request, and waits for the response for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED if no server is there any more, or the one that had the request died or dropped it;
// AMX_CLOSED, AMX_FOREIGN, AMX_BUSY. What no server can have stays in the caller's hands; a request
// that amx_client_allocate() did not make may be copied.
enum amx_status amx_client_call(const struct amx_client *client,
                                struct amx_message *request,
                                uint64_t nanoseconds,
                                struct amx_message *response);

// A server, which counts as one until it is closed or its process ends.
enum amx_status amx_server_open(const struct amx_service *service, struct amx_server **server);

// Closes the handle. The requests that it gave are answered still.
void amx_server_close(struct amx_server *server);

// The oldest request that somebody waits for, and waits for one for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED once there is no client any more; AMX_CLOSED. `data` and `size` say where its bytes lie,
// which are this request's alone until it is answered or closed.
enum amx_status amx_server_next(const struct amx_server *server,
                                uint64_t nanoseconds,
                                struct amx_request **request,
                                uint8_t **data,
                                size_t *size);

// Allocates a response of `size` bytes that is sent without a copy.
enum amx_status amx_request_allocate(const struct amx_request *request,
                                     size_t size,
                                     struct amx_message *response);

// Answers the request. It is over in any case: where the response is not sent, it stays in the caller's hands,
// and whoever waits is told that nobody answers. AMX_DISCONNECTED if nobody waits for it any more;
// AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if it was answered before.
enum amx_status amx_request_respond(const struct amx_request *request,
                                    struct amx_message *response);

// Closes the request. If it was not answered, whoever waits is told so.
void amx_request_close(struct amx_request *request);

// What went wrong in this thread's last call that failed, and what would help: a text in UTF-8,
// empty if none has failed. It is good until this thread's next call that fails.
const char *amx_last_error(void);

// A code's name, as "AMX_FULL". It is good for ever. An unknown number has the name "AMX_UNKNOWN".
const char *amx_status_name(int32_t status);

// Sends the request, whose server may give several responses, and waits for room for it for so many nanoseconds:
// AMX_TIMEOUT. As amx_client_call(), but the request stays in the caller's hands whenever it was not sent.
enum amx_status amx_client_stream(const struct amx_client *client,
                                  struct amx_message *request,
                                  uint64_t nanoseconds,
                                  struct amx_responses **responses);

// The next response, waited for so many nanoseconds: AMX_TIMEOUT, and then it may be tried again.
// AMX_CLOSED behind the last one; AMX_DISCONNECTED if none comes any more because the server died, or dropped the
// request. What was received stays the caller's.
enum amx_status amx_responses_next(const struct amx_responses *responses,
                                   uint64_t nanoseconds,
                                   struct amx_message *response);

// Closes the handle, whose client may make another call then. A server that goes on is told that nobody waits.
void amx_responses_close(struct amx_responses *responses);

// Sends a response behind which others will come, and waits for room for so many nanoseconds: AMX_FULL if there was
// none. AMX_DISCONNECTED if nobody waits for it any more; AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if the
// request was answered before. Not sent, the response stays in the caller's hands, and the request is open still.
enum amx_status amx_request_send(const struct amx_request *request,
                                 struct amx_message *response,
                                 uint64_t nanoseconds);

// Ends a stream without another response: it is over in any case. As amx_request_respond().
enum amx_status amx_request_finish(const struct amx_request *request);

// Whether the caller is alive, as far as anybody has found out, and waits for this request's responses.
bool amx_request_is_awaited(const struct amx_request *request);

// Opens the topic of that name, or makes it: `cells` publications that somebody has yet to read
// (rounded up to a power of two, at most 2^20; 0 for 64), `subscribers` at once (0 for 16).
// AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_topic_open(const struct amx_segment *segment,
                               const char *name,
                               size_t cells,
                               uint16_t subscribers,
                               struct amx_topic **topic);

// Closes the handle; the topic stays.
void amx_topic_close(struct amx_topic *topic);

// Removes the topic: its name is free, nobody publishes any more, and its memory is freed after
// the last user.
enum amx_status amx_topic_remove(const struct amx_topic *topic);

// How many were ever published.
uint64_t amx_topic_published(const struct amx_topic *topic);

// Publishes a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is
// not published stays in the caller's hands.
enum amx_status amx_topic_try_publish(const struct amx_topic *topic, struct amx_message *message);

// Publishes a message, and waits for the slowest subscriber for so many nanoseconds: AMX_TIMEOUT.
// Otherwise as amx_topic_try_publish().
enum amx_status amx_topic_publish(const struct amx_topic *topic,
                                  struct amx_message *message,
                                  uint64_t nanoseconds);

// Subscribes to all that is published from now on, and to as many as `history` of the last before
// that. AMX_NO_PLACE.
enum amx_status amx_subscriber_open(const struct amx_topic *topic,
                                    uint64_t history,
                                    struct amx_subscriber **subscriber);

// Closes the handle, and gives its place up.
void amx_subscriber_close(struct amx_subscriber *subscriber);

// What was published next, where it lies, to be read only; if there is nothing, it is waited for,
// for so many nanoseconds: AMX_TIMEOUT. It stays as it is until amx_subscriber_done(), and is
// given again by each call before that. AMX_CLOSED if nothing will come any more.
enum amx_status amx_subscriber_next(const struct amx_subscriber *subscriber,
                                    uint64_t nanoseconds,
                                    const uint8_t **data,
                                    size_t *size);

// The publication that amx_subscriber_next() gave is read: the next one may be. AMX_EMPTY if there
// was none.
enum amx_status amx_subscriber_done(const struct amx_subscriber *subscriber);

// What went wrong in this thread's last call that failed, and what would help: a text in UTF-8,
// empty if none has failed. It is good until this thread's next call that fails.
const char *amx_last_error(void);

// A code's name, as "AMX_FULL". It is good for ever. An unknown number has the name "AMX_UNKNOWN".
const char *amx_status_name(int32_t status);

// Makes a segment; its name must be free. AMX_EXISTS, AMX_BAD_ARGUMENT, AMX_PERMISSION, AMX_SYSTEM.
enum amx_status amx_segment_create(const struct amx_options *options, struct amx_segment **segment);

// Attaches to a segment, and recovers the dead in it. AMX_NOT_FOUND, AMX_NOT_A_SEGMENT, AMX_PERMISSION.
enum amx_status amx_segment_attach(const struct amx_options *options,
                                   struct amx_segment **segment);

// Attaches to a segment, or makes it, however many processes call this at the same moment.
enum amx_status amx_segment_open_or_create(const struct amx_options *options,
                                           struct amx_segment **segment);

// Closes the handle. Null is closed already.
void amx_segment_close(struct amx_segment *segment);

// Removes the segment's name: those attached go on, and nobody new comes. Its memory goes with its
// last user.
enum amx_status amx_segment_unlink(const struct amx_segment *segment);

// Recovers the dead: what they had begun is finished, and what they had is freed, or kept. It
// happens by itself when somebody attaches, before an allocation fails, and while somebody waits.
// `recovered` may be null.
enum amx_status amx_segment_reap(const struct amx_segment *segment,
                                 struct amx_recovered *recovered);

// What is in the segment. O(blocks). AMX_DAMAGED if its words contradict each other.
enum amx_status amx_segment_stats(const struct amx_segment *segment, struct amx_stats *stats);

// Allocates `size` bytes, aligned to `alignment` (a power of two up to 4096; 0 for 16 bytes),
// holding whatever was there before. The block is this process's: freed if it dies. `address` may
// be null. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_BAD_ARGUMENT, AMX_NO_PLACE.
enum amx_status amx_block_allocate(const struct amx_segment *segment,
                                   size_t size,
                                   size_t alignment,
                                   struct amx_block *block,
                                   uint8_t **address);

// Makes a block `size` bytes large, aligned to `alignment` (as for amx_block_allocate()): where it is, if
// this process owns it and there is room behind it, else by a copy to another place. The position is
// another one then: the one from before is stale. A block of another owner may move, too; nobody else may use it meanwhile. `address` may be
// null. AMX_NOT_LIVE, AMX_OWNED if it is in a structure, and as amx_block_allocate(): then it is as it was.
enum amx_status amx_block_resize(const struct amx_segment *segment,
                                 struct amx_block *block,
                                 size_t size,
                                 size_t alignment,
                                 uint8_t **address);

// Frees a block, whoever allocated it. AMX_NOT_LIVE if it was freed before, AMX_BAD_OFFSET,
// AMX_OWNED if it is in a structure: nothing has changed then.
enum amx_status amx_block_free(const struct amx_segment *segment, struct amx_block block);

// Where a live block lies in this process, and how many bytes it has. Either may be null.
enum amx_status amx_block_address(const struct amx_segment *segment,
                                  struct amx_block block,
                                  uint8_t **address,
                                  size_t *size);

// Gives a block up before its position is passed on: it is unowned until somebody adopts it, and
// no death frees it.
enum amx_status amx_block_hand_over(const struct amx_segment *segment, struct amx_block block);

// Makes this process the owner of a block that another passed on: freed if this one dies.
enum amx_status amx_block_adopt(const struct amx_segment *segment, struct amx_block block);

// Allocates a message of `size` bytes (0 to as many as the segment has room for), which are
// whatever was there before. O(1). AMX_OUT_OF_MEMORY, AMX_TOO_LARGE, AMX_NO_PLACE.
enum amx_status amx_message_allocate(const struct amx_segment *segment,
                                     size_t size,
                                     struct amx_message *message);

// Keeps the first `size` bytes of a message. The block stays as large as it is.
enum amx_status amx_message_truncate(const struct amx_segment *segment,
                                     struct amx_message *message,
                                     size_t size);

// Frees a message. AMX_NOT_LIVE if its block was freed by another way, AMX_FOREIGN if it is of
// another segment.
enum amx_status amx_message_free(const struct amx_segment *segment, struct amx_message *message);

// Lets a message go: it is unowned until somebody takes it by the reference, and no death frees it.
enum amx_status amx_message_hand_over(const struct amx_segment *segment,
                                      struct amx_message *message,
                                      amx_ref *reference);

// Takes the message that a reference leads to: of all who try, one gets it.
// AMX_OWNED if somebody has it, AMX_NOT_LIVE if it was freed, AMX_WRONG_TYPE if it holds no bytes.
enum amx_status amx_message_adopt(const struct amx_segment *segment,
                                  amx_ref reference,
                                  struct amx_message *message);

// Copies what a reference leads to, whoever has it. `size` is told in any case;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. If somebody writes it meanwhile the copy is
// a mixture; if it is freed meanwhile: AMX_NOT_LIVE.
enum amx_status amx_ref_read(const struct amx_segment *segment,
                             amx_ref reference,
                             uint8_t *buffer,
                             size_t capacity,
                             size_t *size);

// Frees the message that a reference leads to, if it is unowned.
enum amx_status amx_ref_free(const struct amx_segment *segment, amx_ref reference);

// Publishes a message under a name of 1 to 96 bytes. It is unowned then, and stays until somebody
// takes it. AMX_NAME_TAKEN, AMX_DIRECTORY_FULL; the message is freed then.
enum amx_status amx_name_publish(const struct amx_segment *segment,
                                 const char *name,
                                 struct amx_message *message);

// A reference to the message of that name, to be read by amx_ref_read(). AMX_NAME_UNKNOWN,
// AMX_WRONG_TYPE.
enum amx_status amx_name_lookup(const struct amx_segment *segment,
                                const char *name,
                                amx_ref *reference);

// Takes the message of that name: of all who try, one gets it. The name is free again.
// AMX_NAME_UNKNOWN, AMX_WRONG_TYPE.
enum amx_status amx_name_take(const struct amx_segment *segment,
                              const char *name,
                              struct amx_message *message);

// Takes the name away. What it stood for stays. AMX_NAME_UNKNOWN.
enum amx_status amx_name_withdraw(const struct amx_segment *segment, const char *name);

// Opens the channel of that name, or makes it, with room for `capacity` messages (rounded up to a
// power of two, at most 2^20). With a capacity of 0 it must be there: AMX_NAME_UNKNOWN.
// AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_channel_open(const struct amx_segment *segment,
                                 const char *name,
                                 size_t capacity,
                                 struct amx_channel **channel);

// Closes the handle; the channel stays, with what is in it.
void amx_channel_close(struct amx_channel *channel);

// Messages in it: exact when nobody is inside a call.
size_t amx_channel_length(const struct amx_channel *channel);

// Nobody sends any more, in any process: receivers get what is in it, then AMX_CLOSED.
enum amx_status amx_channel_end(const struct amx_channel *channel);

// Takes its name away and ends it. The last one to leave frees it, with what nobody received.
enum amx_status amx_channel_remove(const struct amx_channel *channel);

// A sender, which counts as one until it is closed or its process ends.
enum amx_status amx_sender_open(const struct amx_channel *channel, struct amx_sender **sender);

// Closes the handle.
void amx_sender_close(struct amx_sender *sender);

// Sends a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is not
// sent stays in the caller's hands.
enum amx_status amx_sender_try_send(const struct amx_sender *sender, struct amx_message *message);

// Sends a message, and waits for room for so many nanoseconds: AMX_TIMEOUT. AMX_DISCONNECTED if it
// is full and no receiver is there any more; AMX_CLOSED, AMX_FOREIGN. What is not sent stays in
// the caller's hands.
enum amx_status amx_sender_send(const struct amx_sender *sender,
                                struct amx_message *message,
                                uint64_t nanoseconds);

// A receiver, which counts as one until it is closed or its process ends.
enum amx_status amx_receiver_open(const struct amx_channel *channel,
                                  struct amx_receiver **receiver);

// Closes the handle. What it received stays the caller's.
void amx_receiver_close(struct amx_receiver *receiver);

// Receives the oldest message, if there is one now: AMX_EMPTY. Lock-free. AMX_DISCONNECTED if
// there is no sender any more either; AMX_CLOSED.
enum amx_status amx_receiver_try_recv(const struct amx_receiver *receiver,
                                      struct amx_message *message);

// Receives the oldest message, and waits for one for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED, AMX_CLOSED.
enum amx_status amx_receiver_recv(const struct amx_receiver *receiver,
                                  struct amx_message *message,
                                  uint64_t nanoseconds);

// Opens the topic of that name, or makes it: `cells` publications that somebody has yet to read
// (rounded up to a power of two, at most 2^20; 0 for 64), `subscribers` at once (0 for 16).
// AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_topic_open(const struct amx_segment *segment,
                               const char *name,
                               size_t cells,
                               uint16_t subscribers,
                               struct amx_topic **topic);

// Closes the handle; the topic stays.
void amx_topic_close(struct amx_topic *topic);

// Removes the topic: its name is free, nobody publishes any more, and its memory is freed after
// the last user.
enum amx_status amx_topic_remove(const struct amx_topic *topic);

// How many were ever published.
uint64_t amx_topic_published(const struct amx_topic *topic);

// Publishes a message, if there is room now: AMX_FULL. Lock-free. AMX_CLOSED, AMX_FOREIGN. What is
// not published stays in the caller's hands.
enum amx_status amx_topic_try_publish(const struct amx_topic *topic, struct amx_message *message);

// Publishes a message, and waits for the slowest subscriber for so many nanoseconds: AMX_TIMEOUT.
// Otherwise as amx_topic_try_publish().
enum amx_status amx_topic_publish(const struct amx_topic *topic,
                                  struct amx_message *message,
                                  uint64_t nanoseconds);

// Subscribes to all that is published from now on, and to as many as `history` of the last before
// that. AMX_NO_PLACE.
enum amx_status amx_subscriber_open(const struct amx_topic *topic,
                                    uint64_t history,
                                    struct amx_subscriber **subscriber);

// Closes the handle, and gives its place up.
void amx_subscriber_close(struct amx_subscriber *subscriber);

// What was published next, where it lies, to be read only; if there is nothing, it is waited for,
// for so many nanoseconds: AMX_TIMEOUT. It stays as it is until amx_subscriber_done(), and is
// given again by each call before that. AMX_CLOSED if nothing will come any more.
enum amx_status amx_subscriber_next(const struct amx_subscriber *subscriber,
                                    uint64_t nanoseconds,
                                    const uint8_t **data,
                                    size_t *size);

// The publication that amx_subscriber_next() gave is read: the next one may be. AMX_EMPTY if there
// was none.
enum amx_status amx_subscriber_done(const struct amx_subscriber *subscriber);

// Opens the board of that name, or makes it. AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_board_open(const struct amx_segment *segment,
                               const char *name,
                               struct amx_board **board);

// Closes the handle; the board stays.
void amx_board_close(struct amx_board *board);

// Removes the board: its name is free, nobody sets it any more, and its memory is freed after the
// last user.
enum amx_status amx_board_remove(const struct amx_board *board);

// Sets the value to a copy of these bytes. Lock-free. AMX_OUT_OF_MEMORY, AMX_CLOSED.
enum amx_status amx_board_set(const struct amx_board *board, const uint8_t *data, size_t size);

// Sets the value to a message's, which was filled where it lies. AMX_CLOSED: the message is freed then.
enum amx_status amx_board_set_message(const struct amx_board *board,
                                      struct amx_message *message);

// Copies the newest value: AMX_EMPTY if none was set. `size` is told whenever there is one;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`.
enum amx_status amx_board_get(const struct amx_board *board,
                              uint8_t *buffer,
                              size_t capacity,
                              size_t *size);

// As amx_board_get(), for a value that is not the one that `seen` says, which is waited for, for
// so many nanoseconds: AMX_TIMEOUT. `seen` is 0 at first, and says afterwards that the copied one
// was seen. What did not fit into the buffer was not seen.
enum amx_status amx_board_changed(const struct amx_board *board,
                                  uint64_t *seen,
                                  uint64_t nanoseconds,
                                  uint8_t *buffer,
                                  size_t capacity,
                                  size_t *size);

// Opens the map of that name, or makes it for `capacity` entries (1 to 131 072; 0 for 256) and as many
// guards and calls at once as `guards` (1 to 1024; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_map_open(const struct amx_segment *segment,
                             const char *name,
                             size_t capacity,
                             uint16_t guards,
                             struct amx_map **map);

// Closes the handle; the map stays, with what is in it.
void amx_map_close(struct amx_map *map);

// Removes the map: its name is free, and its memory is freed after the last user, with what is in it.
enum amx_status amx_map_remove(const struct amx_map *map);

// Entries in it: exact when nobody is inside a call. O(places).
size_t amx_map_length(const struct amx_map *map);

// Allocates a message of `size` bytes with room for its key, which is put in without a copy.
enum amx_status amx_map_allocate(const struct amx_map *map,
                                 const uint8_t *key,
                                 size_t key_size,
                                 size_t size,
                                 struct amx_message *message);

// Puts a message under a key, and frees what was there, as soon as nobody reads it. Lock-free. AMX_FULL,
// AMX_CLOSED, AMX_FOREIGN, AMX_BAD_ARGUMENT if the key has more than 4096 bytes. What is not put in
// stays in the caller's hands. A message that amx_map_allocate() did not make may be copied.
enum amx_status amx_map_insert(const struct amx_map *map,
                               const uint8_t *key,
                               size_t key_size,
                               struct amx_message *message);

// As amx_map_insert(), if the key is not there: AMX_NAME_TAKEN. Of several who try, one succeeds.
enum amx_status amx_map_insert_new(const struct amx_map *map,
                                   const uint8_t *key,
                                   size_t key_size,
                                   struct amx_message *message);

// As amx_map_insert(), if the key is there: AMX_NAME_UNKNOWN.
enum amx_status amx_map_replace(const struct amx_map *map,
                                const uint8_t *key,
                                size_t key_size,
                                struct amx_message *message);

// Copies the value under a key: AMX_NAME_UNKNOWN if there is none. `size` is told whenever there is one;
// AMX_BUFFER_TOO_SMALL if it is more than `capacity`. AMX_NO_PLACE if as many as the map was made for
// are at work.
enum amx_status amx_map_get(const struct amx_map *map,
                            const uint8_t *key,
                            size_t key_size,
                            uint8_t *buffer,
                            size_t capacity,
                            size_t *size);

// Reads the value under a key where it lies, until `entry` is closed, which takes one of the map's
// guards. AMX_NAME_UNKNOWN, AMX_NO_PLACE.
enum amx_status amx_map_read(const struct amx_map *map,
                             const uint8_t *key,
                             size_t key_size,
                             struct amx_entry **entry,
                             const uint8_t **data,
                             size_t *size);

// Closes it: its bytes are read no more.
void amx_entry_close(struct amx_entry *entry);

// Takes the value under a key out: of several who try, one gets it; AMX_NAME_UNKNOWN. Whoever reads it is
// waited for, for so many nanoseconds, and then it is a copy (AMX_OUT_OF_MEMORY: it is out, and freed).
enum amx_status amx_map_take(const struct amx_map *map,
                             const uint8_t *key,
                             size_t key_size,
                             uint64_t nanoseconds,
                             struct amx_message *message);

// Calls `visit` with each key: one that is there throughout is among them once. The map may be used
// meanwhile, also by `visit`, which throws no exception.
enum amx_status amx_map_keys(const struct amx_map *map, amx_visit visit, void *context);

// Opens the service of that name, or makes it, with room for `capacity` requests that wait (rounded up
// to a power of two, at most 2^20; 0 for 64). AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_service_open(const struct amx_segment *segment,
                                 const char *name,
                                 size_t capacity,
                                 struct amx_service **service);

// Closes the handle; the service stays.
void amx_service_close(struct amx_service *service);

// Removes the service: its name is free, nobody calls any more, and its memory is freed after the last user.
enum amx_status amx_service_remove(const struct amx_service *service);

// A client, which counts as one until it is closed or its process ends.
enum amx_status amx_client_open(const struct amx_service *service, struct amx_client **client);

// Closes the handle. What it received stays the caller's.
void amx_client_close(struct amx_client *client);

// Allocates a request of `size` bytes that is sent without a copy.
enum amx_status amx_client_allocate(const struct amx_client *client,
                                    size_t size,
                                    struct amx_message *request);

// Sends the request, and waits for the response for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED if no server is there any more, or the one that had the request died or dropped it;
// AMX_CLOSED, AMX_FOREIGN, AMX_BUSY. What no server can have stays in the caller's hands; a request
// that amx_client_allocate() did not make may be copied.
enum amx_status amx_client_call(const struct amx_client *client,
                                struct amx_message *request,
                                uint64_t nanoseconds,
                                struct amx_message *response);

// A server, which counts as one until it is closed or its process ends.
enum amx_status amx_server_open(const struct amx_service *service, struct amx_server **server);

// Closes the handle. The requests that it gave are answered still.
void amx_server_close(struct amx_server *server);

// The oldest request that somebody waits for, and waits for one for so many nanoseconds: AMX_TIMEOUT.
// AMX_DISCONNECTED once there is no client any more; AMX_CLOSED. `data` and `size` say where its bytes lie,
// which are this request's alone until it is answered or closed.
enum amx_status amx_server_next(const struct amx_server *server,
                                uint64_t nanoseconds,
                                struct amx_request **request,
                                uint8_t **data,
                                size_t *size);

// Allocates a response of `size` bytes that is sent without a copy.
enum amx_status amx_request_allocate(const struct amx_request *request,
                                     size_t size,
                                     struct amx_message *response);

// Answers the request. It is over in any case: where the response is not sent, it stays in the caller's hands,
// and whoever waits is told that nobody answers. AMX_DISCONNECTED if nobody waits for it any more;
// AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if it was answered before.
enum amx_status amx_request_respond(const struct amx_request *request,
                                    struct amx_message *response);

// Closes the request. If it was not answered, whoever waits is told so.
void amx_request_close(struct amx_request *request);

// Sends the request, whose server may give several responses, and waits for room for it for so many nanoseconds:
// AMX_TIMEOUT. As amx_client_call(), but the request stays in the caller's hands whenever it was not sent.
enum amx_status amx_client_stream(const struct amx_client *client,
                                  struct amx_message *request,
                                  uint64_t nanoseconds,
                                  struct amx_responses **responses);

// The next response, waited for so many nanoseconds: AMX_TIMEOUT, and then it may be tried again.
// AMX_CLOSED behind the last one; AMX_DISCONNECTED if none comes any more because the server died, or dropped the
// request. What was received stays the caller's.
enum amx_status amx_responses_next(const struct amx_responses *responses,
                                   uint64_t nanoseconds,
                                   struct amx_message *response);

// Closes the handle, whose client may make another call then. A server that goes on is told that nobody waits.
void amx_responses_close(struct amx_responses *responses);

// Sends a response behind which others will come, and waits for room for so many nanoseconds: AMX_FULL if there was
// none. AMX_DISCONNECTED if nobody waits for it any more; AMX_FOREIGN, AMX_OUT_OF_MEMORY; AMX_BAD_ARGUMENT if the
// request was answered before. Not sent, the response stays in the caller's hands, and the request is open still.
enum amx_status amx_request_send(const struct amx_request *request,
                                 struct amx_message *response,
                                 uint64_t nanoseconds);

// Ends a stream without another response: it is over in any case. As amx_request_respond().
enum amx_status amx_request_finish(const struct amx_request *request);

// Whether the caller is alive, as far as anybody has found out, and waits for this request's responses.
bool amx_request_is_awaited(const struct amx_request *request);

// Opens the event of that name, or makes it, not set. AMX_WRONG_TYPE if that name is something else's.
enum amx_status amx_event_open(const struct amx_segment *segment,
                               const char *name,
                               struct amx_event **event);

// Closes the handle; the event stays.
void amx_event_close(struct amx_event *event);

// Removes the event: its name is free, and its memory is freed after the last user.
enum amx_status amx_event_remove(const struct amx_event *event);

// Sets it, and wakes all who wait. Set twice, it is set.
enum amx_status amx_event_set(const struct amx_event *event);

// Waits until it is set, for so many nanoseconds: AMX_TIMEOUT. With `clear`, it is not set any
// more then, and one of those who wait got it.
enum amx_status amx_event_wait(const struct amx_event *event, bool clear, uint64_t nanoseconds);

// A descriptor that is readable when there may be a message. It outlives the receiver's handle.
enum amx_status amx_receiver_readable(const struct amx_receiver *receiver,
                                      struct amx_readable **readable);

// A descriptor that is readable when something may have been published, for any of the topic's
// subscribers.
enum amx_status amx_topic_readable(const struct amx_topic *topic, struct amx_readable **readable);

// The descriptor's number, to be waited at and not to be read or closed; -1 if there is none.
int32_t amx_readable_fd(const struct amx_readable *readable);

// It is not readable any more, until something is put from now on, or for 50 ms. Call it before
// you take what is there, not behind.
enum amx_status amx_readable_arm(const struct amx_readable *readable);

// Closes the descriptor.
void amx_readable_close(struct amx_readable *readable);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ATOMIC_MATRIX_H */
