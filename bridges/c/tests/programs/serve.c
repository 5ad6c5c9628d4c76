/* Answers each call of the service `numbers` with its bytes in reverse, three times if they are even in number, until
   it is killed or nobody calls any more. */
#include "check.h"

int main(int argc, char **argv) {
  HOLDS(argc == 2);
  amx_options options = {.name = argv[1]};
  amx_segment *segment;
  amx_service *service;
  amx_server *server;
  OK(amx_segment_attach(&options, &segment));
  OK(amx_service_open(segment, "numbers", 0, &service));
  OK(amx_server_open(service, &server));
  puts("serves");
  fflush(stdout);
  for (;;) {
    amx_request *request;
    amx_message response;
    uint8_t *data;
    size_t size;
    amx_status status = amx_server_next(server, LONG, &request, &data, &size);
    if (status == AMX_DISCONNECTED || status == AMX_CLOSED) break;
    OK(status);
    size_t responses = size % 2 ? 1 : 3;
    for (size_t k = 0; k < responses; k++) {
      OK(amx_request_allocate(request, size, &response));
      for (size_t i = 0; i < size; i++) response.data[i] = data[size - 1 - i];
      if (k + 1 < responses) OK(amx_request_send(request, &response, LONG));
    }
    OK(amx_request_respond(request, &response));
    amx_request_close(request);
  }
  amx_server_close(server);
  amx_service_close(service);
  amx_segment_close(segment);
}
