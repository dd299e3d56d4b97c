/* The C interface of the loader, used as C. Arguments: testdata/q4/v1_two_tensors.q4, of which docs/format.md section
 * 12 shows every byte, testdata/q4/v1_full.q4, and the name of a file that may be written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libconvert/load/q4_loader_c.h"

static int failures = 0;

static void Check(int holds, const char* what, int line) {
  if (holds) return;
  ++failures;
  printf("line %d: %s; last error: %s\n", line, what, q4_last_error());
}
#define CHECK(condition) Check((condition) != 0, #condition, __LINE__)

static void CheckQuantized(const char* path) {
  q4_model* model = NULL;
  q4_tensor norm, proj;
  CHECK(q4_load(path, NULL, &model) == 0);
  if (model == NULL) return;
  CHECK(q4_tensor_count(model) == 2);
  CHECK(q4_get_tensor(model, 0, &norm) == 0);
  CHECK(strcmp(norm.name, "norm.weight") == 0);
  CHECK(strcmp(norm.dtype, "BF16") == 0);
  CHECK(norm.rank == 1 && norm.shape[0] == 4 && norm.elems == 4);
  CHECK(norm.scheme == NULL && norm.codes == NULL);
  CHECK(norm.value_bytes == 8 && memcmp(norm.values, "\x80\x3f\x00\x3f\x00\xc0\x00\x00", 8) == 0);

  CHECK(q4_find_tensor(model, "proj.weight", &proj) == 0);
  CHECK(proj.rank == 2 && proj.shape[0] == 3 && proj.shape[1] == 11);
  CHECK(strcmp(proj.scheme, "nf4") == 0 && proj.block_size == 32 && proj.blocks == 2);
  CHECK(proj.values == NULL && proj.scale_codes == NULL && proj.scales2 == NULL && proj.nested_offset_word == NULL);
  CHECK(memcmp(proj.codes, "\xf0\x12\x34", 3) == 0 && ((const unsigned char*)proj.codes)[16] == 0xf7);
  CHECK(((const float*)proj.scales)[0] == 0.5f && ((const float*)proj.scales)[1] == 0.25f);

  CHECK(q4_get_tensor(model, 2, &proj) == 1);
  CHECK(q4_find_tensor(model, "no.such", &proj) == 1);
  CHECK(strstr(q4_last_error(), "no.such") != NULL);
  q4_free(model);
}

static void CheckDequantizedSubset(const char* path) {
  const char* names[] = {"proj.weight"};
  q4_load_options options = Q4_LOAD_OPTIONS_INIT;
  q4_model* model = NULL;
  q4_tensor proj;
  options.form = Q4_FORM_F32;
  options.check = Q4_CHECK_SHA256;
  options.tensors = names;
  options.tensor_count = 1;
  CHECK(q4_load(path, &options, &model) == 0);
  if (model == NULL) return;
  CHECK(q4_tensor_count(model) == 1);
  CHECK(q4_find_tensor(model, "proj.weight", &proj) == 0);
  CHECK(strcmp(proj.dtype, "F32") == 0 && proj.value_bytes == 33 * 4 && proj.codes == NULL);
  /* The codes begin with 15 and 0, which stand for 1 and -1. */
  CHECK(((const float*)proj.values)[0] == 0.5f && ((const float*)proj.values)[1] == -0.5f);
  q4_free(model);
}

static void CheckErrors(const char* path) {
  q4_load_options options = Q4_LOAD_OPTIONS_INIT;
  q4_model* model = (q4_model*)1;
  const char* content;
  uint64_t bytes;
  CHECK(q4_load("/no/such/file.q4", NULL, &model) == 2);
  CHECK(model == NULL);
  CHECK(strstr(q4_last_error(), "/no/such/file.q4") != NULL);
  CHECK(q4_load(NULL, NULL, &model) == 1);
  CHECK(q4_load(path, NULL, NULL) == 1);
  options.form = 99;
  CHECK(q4_load(path, &options, &model) == 1);
  options.form = Q4_FORM_QUANTIZED;
  options.device = 1000;
  CHECK(q4_load(path, &options, &model) == 4 || q4_load(path, &options, &model) == 5);
  CHECK(strstr(q4_last_error(), "cuda:1000") != NULL);
  options.device = -2;
  CHECK(q4_load(path, &options, &model) == 1);
  CHECK(q4_get_file(NULL, "config.json", &content, &bytes) == 1);
  CHECK(q4_tensor_count(NULL) == 0);
  q4_free(NULL);
}

static void CheckFiles(const char* path) {
  q4_model* model = NULL;
  const char* content = NULL;
  uint64_t bytes = 0;
  CHECK(q4_load(path, NULL, &model) == 0);
  if (model == NULL) return;
  CHECK(q4_get_file(model, "config.json", &content, &bytes) == 0);
  CHECK(content != NULL && bytes == strlen(content) && content[0] == '{');
  CHECK(q4_get_file(model, "no.such", &content, &bytes) == 3);
  q4_free(model);
}

/* The parts of a plan in memory of the test's own, aligned as calloc() does it, which 16 divides. */
static void CheckFills(const char* two, const char* full) {
  q4_plan_options options = Q4_PLAN_OPTIONS_INIT;
  q4_fill_options fill = Q4_FILL_OPTIONS_INIT;
  q4_slice slice = {"nf4.nested", 0, 0, 32};
  const char* names[] = {"nf4.nested"};
  q4_plan* plan = NULL;
  q4_model* model = NULL;
  q4_tensor tensor, whole;
  q4_part part;
  void* places[8] = {NULL};
  const char* content = NULL;
  uint64_t i, bytes = 0;

  CHECK(q4_plan_load(two, NULL, &plan) == 0);
  if (plan == NULL) return;
  CHECK(q4_plan_tensor_count(plan) == 2 && q4_plan_part_count(plan) == 3 && q4_plan_block_count(plan) == 1);
  CHECK(q4_plan_get_tensor(plan, 1, &tensor) == 0);
  CHECK(strcmp(tensor.name, "proj.weight") == 0 && tensor.blocks == 2 && tensor.codes == NULL);
  CHECK(q4_plan_get_part(plan, 1, &part) == 0);
  CHECK(part.tensor == 1 && part.kind == Q4_PART_CODES && strcmp(part.dtype, "U8") == 0);
  CHECK(part.rank == 1 && part.shape[0] == 17 && part.bytes == 17 && part.block == 0);
  for (i = 0; i < 3; ++i) {
    CHECK(q4_plan_get_part(plan, i, &part) == 0);
    places[i] = calloc(1, part.bytes);
  }
  CHECK(q4_fill_parts(plan, NULL, places) == 0);
  CHECK(memcmp(places[0], "\x80\x3f\x00\x3f\x00\xc0\x00\x00", 8) == 0);
  CHECK(memcmp(places[1], "\xf0\x12\x34", 3) == 0 && ((const unsigned char*)places[1])[16] == 0xf7);
  CHECK(((const float*)places[2])[0] == 0.5f && ((const float*)places[2])[1] == 0.25f);
  for (i = 0; i < 3; ++i) free(places[i]);

  CHECK(q4_plan_get_block(plan, 0, &bytes) == 0);
  places[0] = calloc(1, bytes);
  fill.await_stream = 1; /* of host memory without meaning */
  CHECK(q4_fill_blocks(plan, &fill, places) == 0);
  CHECK(q4_plan_get_part(plan, 1, &part) == 0);
  CHECK(memcmp((const char*)places[0] + part.offset, "\xf0\x12\x34", 3) == 0);
  CHECK(q4_plan_get_tensor(plan, 2, &tensor) == 1 && q4_plan_get_part(plan, 3, &part) == 1);
  CHECK(q4_plan_get_block(plan, 1, &bytes) == 1);
  CHECK(q4_fill_blocks(plan, NULL, NULL) == 1 && q4_fill_parts(NULL, NULL, places) == 1);
  fill.check = 99;
  CHECK(q4_fill_blocks(plan, &fill, places) == 1);
  CHECK(q4_fill_parts(plan, NULL, places + 1) == 1);
  CHECK(strstr(q4_last_error(), "address 0") != NULL);
  free(places[0]);
  q4_plan_free(plan);
  q4_plan_free(NULL);

  /* 32 rows of 31 are 31 blocks of 32: their scales are decoded, as a group of 256 is cut. */
  options.tensors = names;
  options.tensor_count = 1;
  options.slices = &slice;
  options.slice_count = 1;
  CHECK(q4_plan_load(full, &options, &plan) == 0);
  if (plan == NULL) return;
  CHECK(q4_plan_get_file(plan, "config.json", &content, &bytes) == 0 && content[0] == '{');
  CHECK(q4_plan_part_count(plan) == 2);
  CHECK(q4_plan_get_tensor(plan, 0, &tensor) == 0);
  CHECK(tensor.shape[0] == 32 && tensor.shape[1] == 31 && tensor.blocks == 31 && tensor.nested_offset == 0);
  CHECK(q4_plan_get_part(plan, 1, &part) == 0);
  CHECK(part.kind == Q4_PART_SCALES && part.shape[0] == 31);
  places[0] = calloc(1, 496);
  places[1] = calloc(31, sizeof(float));
  CHECK(q4_fill_parts(plan, NULL, places) == 0);
  {
    q4_load_options flat = Q4_LOAD_OPTIONS_INIT;
    flat.form = Q4_FORM_FLAT_SCALES;
    CHECK(q4_load(full, &flat, &model) == 0);
    CHECK(q4_find_tensor(model, "nf4.nested", &whole) == 0);
    CHECK(whole.scale_codes == NULL && whole.nested_offset == 0);
    CHECK(memcmp(whole.codes, places[0], 496) == 0 && memcmp(whole.scales, places[1], 31 * sizeof(float)) == 0);
    q4_free(model);
  }
  free(places[0]);
  free(places[1]);
  q4_plan_free(plan);

  slice.end = 33;
  CHECK(q4_plan_load(full, &options, &plan) == 1 && plan == NULL);
  CHECK(strstr(q4_last_error(), "multiples of 32") != NULL);
  options.slice_count = 0;
  options.block_bytes = 1;
  CHECK(q4_plan_load(full, &options, &plan) == 1);
  CHECK(q4_plan_load_pinned(full, NULL, NULL, &plan) == 1);
  CHECK(q4_plan_load_pinned(full, "sha256:0000000000000000000000000000000000000000000000000000000000000000", NULL,
                            &plan) == 6);
}

/* Writes a copy of `path` with one byte of its first chunk changed. */
static int WriteDamaged(const char* path, const char* damaged) {
  FILE* in = fopen(path, "rb");
  FILE* out = fopen(damaged, "wb");
  int byte;
  long at = 0;
  if (in == NULL || out == NULL) return 0;
  while ((byte = fgetc(in)) != EOF) fputc(at++ == 4096 ? byte ^ 1 : byte, out);
  fclose(in);
  return fclose(out) == 0;
}

int main(int argc, char** argv) {
  q4_model* model = NULL;
  if (argc != 4) {
    printf("usage: c_api_test TWO_TENSORS.q4 FULL.q4 SCRATCH_FILE\n");
    return 2;
  }
  CHECK(q4_loader_version() == Q4_LOADER_VERSION);
  CheckQuantized(argv[1]);
  CheckDequantizedSubset(argv[1]);
  CheckErrors(argv[1]);
  CheckFiles(argv[2]);
  CheckFills(argv[1], argv[2]);
  CHECK(WriteDamaged(argv[1], argv[3]));
  CHECK(q4_load(argv[3], NULL, &model) == 6);
  CHECK(strstr(q4_last_error(), "proj.weight") != NULL && strstr(q4_last_error(), "codes, chunk 0") != NULL);
  printf("c_api_test: %d failures\n", failures);
  return failures != 0;
}
