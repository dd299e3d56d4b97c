/* The C interface of the loader, used as C. Arguments: testdata/q4/v1_two_tensors.q4, of which docs/format.md section
 * 12 shows every byte, testdata/q4/v1_full.q4, and the name of a file that may be written. */
#include <stdio.h>
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
  CHECK(WriteDamaged(argv[1], argv[3]));
  CHECK(q4_load(argv[3], NULL, &model) == 6);
  CHECK(strstr(q4_last_error(), "proj.weight") != NULL && strstr(q4_last_error(), "codes, chunk 0") != NULL);
  printf("c_api_test: %d failures\n", failures);
  return failures != 0;
}
