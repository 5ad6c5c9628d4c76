/* Puts values into the map `values` under eight keys, reads them, and takes them out, until it is killed. A value is one
   byte again and again; whatever is read must be whole. */
#include "check.h"

static void whole(const uint8_t *data, size_t size) {
  HOLDS(size >= 2);
  for (size_t i = 1; i < size; i++) HOLDS(data[i] == data[0]);
}

int main(int argc, char **argv) {
  HOLDS(argc == 2);
  amx_options options = {.name = argv[1]};
  amx_segment *segment;
  amx_map *map;
  OK(amx_segment_attach(&options, &segment));
  OK(amx_map_open(segment, "values", 0, 0, &map));
  for (uint32_t turn = 0;; turn++) {
    uint8_t key[4] = {'k', 'e', 'y', (uint8_t)(turn * 5 % 8)};
    size_t size = 2 + turn % 3000;
    amx_message value;
    if (turn % 4 == 3) {
      amx_status status = amx_map_take(map, key, sizeof key, 0, &value);
      if (status == AMX_NAME_UNKNOWN) continue;
      OK(status);
      whole(value.data, value.size);
      OK(amx_message_free(segment, &value));
      continue;
    }
    if (turn % 2) OK(amx_map_allocate(map, key, sizeof key, size, &value));
    else OK(amx_message_allocate(segment, size, &value));
    memset(value.data, (int)(turn % 251), value.size);
    OK(amx_map_insert(map, key, sizeof key, &value));
    if (turn == 4) {
      puts("filled");
      fflush(stdout);
    }
    amx_entry *entry;
    const uint8_t *data;
    amx_status status = amx_map_read(map, key, sizeof key, &entry, &data, &size);
    if (status == AMX_NAME_UNKNOWN) continue;
    OK(status);
    whole(data, size);
    amx_entry_close(entry);
  }
}
