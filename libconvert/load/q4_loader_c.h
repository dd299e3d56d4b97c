/* Loads .q4 models into memory, of this process or of a GPU: the loader's API in C, for bindings (dlopen, ctypes, FFI).
 * docs/loading.md has an example. load.h is the same in C++ and says more.
 *
 *   q4_load_options options = Q4_LOAD_OPTIONS_INIT;
 *   q4_model* model = NULL;
 *   q4_tensor tensor;
 *   options.device = 0;
 *   if (q4_load("model.q4", &options, &model) != 0) return Complain(q4_last_error());
 *   q4_find_tensor(model, "model.layers.0.self_attn.q_proj.weight", &tensor);
 *   ...
 *   q4_free(model);
 *
 * Functions that can fail return 0, or the exit code that the q4 tools would end with: 1 wrong argument, 2 a file
 * cannot be read, 3 it is no model, 4 no memory or the device fails, 5 not supported by this build, 6 the file is
 * damaged. q4_last_error() then says what is wrong. A model may be used by several threads at once; nothing changes it
 * until q4_free(). */
#ifndef Q4_LOADER_C_H_
#define Q4_LOADER_C_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define Q4_API __attribute__((visibility("default")))
#else
#define Q4_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. Structures and functions never change; a version adds to those before it: 2 plans and
 * fills, and Q4_FORM_FLAT_SCALES. A library that was opened at run time is asked first: q4_loader_version() >=
 * Q4_LOADER_VERSION. */
#define Q4_LOADER_VERSION 2
Q4_API uint32_t q4_loader_version(void);

typedef struct q4_model q4_model;

/* q4_load_options.device */
enum { Q4_DEVICE_HOST = -1 }; /* else the number of a CUDA device */

/* q4_load_options.form and q4_plan_options.form: what becomes of quantized tensors. All others are loaded as they are.
 */
enum {
  Q4_FORM_QUANTIZED = 0, /* codes and scales */
  Q4_FORM_SOURCE = 1,    /* dequantized to the dtype that the tensor had before it was quantized */
  Q4_FORM_F32 = 2,
  Q4_FORM_F16 = 3,
  Q4_FORM_BF16 = 4,
  Q4_FORM_FLAT_SCALES = 5 /* codes, and fp32 scales: nested ones are decoded; since version 2 */
};

/* q4_load_options.check and q4_fill_options.check */
enum {
  Q4_CHECK_XXH3 = 0,   /* the XXH3 of each chunk, and that scales are finite: finds accidents, no replaced bytes */
  Q4_CHECK_SHA256 = 1, /* and its SHA-256: what is loaded is what the model's root identifies */
  Q4_CHECK_NONE = 2    /* header and index only */
};

/* All zero but the device: everything into host memory, checked, by up to 16 threads. */
typedef struct {
  int32_t device;
  int32_t form;
  int32_t check;
  uint32_t threads;           /* 0: all cores, but not more than 16 */
  const char* const* tensors; /* names of those wanted; NULL: all */
  uint64_t tensor_count;
} q4_load_options;
#define Q4_LOAD_OPTIONS_INIT \
  { Q4_DEVICE_HOST, Q4_FORM_QUANTIZED, Q4_CHECK_XXH3, 0, NULL, 0 }

/* One tensor. Strings and pointers live as long as the model. `values`, `codes` and scales are addresses of the memory
 * that was loaded into, aligned to 64; those that a tensor does not have are NULL. */
typedef struct {
  const char* name;
  const char* dtype; /* of the values, as safetensors names it: "BF16", ...; of codes, that of the source */
  uint32_t rank;
  uint64_t shape[8]; /* outermost first */
  uint64_t elems;
  /* Kept tensors, and all in a dequantized form: elements, row-major. */
  const void* values;
  uint64_t value_bytes;
  /* Quantized tensors. docs/format.md, F3.4, and docs/numerics.md say how a value is computed of these. */
  const char* scheme;  /* "nf4" or "fp4"; NULL for a kept tensor */
  uint32_t block_size; /* elements per scale */
  uint64_t blocks;
  const void* codes;              /* uint8, (elems + 1) / 2; the first of two elements is in the high nibble */
  const void* scales;             /* float, blocks; NULL if nested: */
  const void* scale_codes;        /* uint8, blocks */
  const void* scales2;            /* float, (blocks + 255) / 256: the group scales */
  const void* nested_offset_word; /* float, one */
  float nested_offset;            /* the same, by value */
} q4_tensor;

/* Loads the model `path`, a .q4 file or the NAME.q4.index.json of one in shards; returns when every tensor is ready.
 * The calling thread's current CUDA device stays as it is. `options` may be NULL. On an error *model is NULL. */
Q4_API int q4_load(const char* path, const q4_load_options* options, q4_model** model);

/* The same for the one model that has this root, "sha256:" and 64 lower-case hex digits, or the digits alone: exit code
 * 6 for any other. Each chunk that is loaded is checked by its SHA-256, whatever options->check says, so that what lies
 * in memory is what the root was signed for. */
Q4_API int q4_load_pinned(const char* path, const char* root, const q4_load_options* options, q4_model** model);

/* Frees the model and its memory. NULL is allowed. */
Q4_API void q4_free(q4_model* model);

/* Tensors in bytewise order of their names. q4_get_tensor() fails when `number` is not below the count,
 * q4_find_tensor() when no tensor that was loaded has the name. */
Q4_API uint64_t q4_tensor_count(const q4_model* model);
Q4_API int q4_get_tensor(const q4_model* model, uint64_t number, q4_tensor* tensor);
Q4_API int q4_find_tensor(const q4_model* model, const char* name, q4_tensor* tensor);

/* An embedded file, such as "config.json": its content, followed by a zero byte that does not count. Lives as long as
 * the model. Fails when there is no such file. */
Q4_API int q4_get_file(const q4_model* model, const char* name, const char** content, uint64_t* bytes);

/* ---- Plan, then fill (since version 2): a load into memory of the caller's own, such as a framework's allocator has.
 *
 *   q4_plan* plan = NULL;
 *   q4_part part;
 *   if (q4_plan_load("model.q4", NULL, &plan) != 0) return Complain(q4_last_error());
 *   for (i = 0; i < q4_plan_part_count(plan); ++i) {
 *     q4_plan_get_part(plan, i, &part);
 *     places[i] = Allocate(part.bytes);
 *   }
 *   if (q4_fill_parts(plan, NULL, places) != 0) return Complain(q4_last_error());
 *   q4_plan_free(plan);
 */
typedef struct q4_plan q4_plan;

/* [begin, end) of dimension `dim`, 0 being the outermost, of a tensor. Of a quantized tensor it must not cut blocks of
 * elements that share a scale; q4_last_error() says which slices there are. A slice that cuts a group of 256 blocks has
 * fp32 scales where the tensor has nested ones. */
typedef struct {
  const char* tensor;
  uint32_t dim;
  uint64_t begin, end;
} q4_slice;

/* All zero: everything, whole, as the container has it. */
typedef struct {
  int32_t form;
  const char* const* tensors; /* names of those wanted; NULL: all */
  uint64_t tensor_count;
  const q4_slice* slices; /* of tensors that are wanted, at most one of each; may be NULL */
  uint64_t slice_count;
  uint64_t block_bytes; /* the most that a block has, unless one part is larger; 0: 512 MiB */
} q4_plan_options;
#define Q4_PLAN_OPTIONS_INIT \
  { Q4_FORM_QUANTIZED, NULL, 0, NULL, 0, 0 }

/* q4_part.kind. A tensor has values; or codes and scales; or codes, scale codes, scales2 and an offset, in this order.
 */
enum {
  Q4_PART_VALUES = 0,
  Q4_PART_CODES = 1,
  Q4_PART_SCALES = 2,
  Q4_PART_SCALE_CODES = 3,
  Q4_PART_SCALES2 = 4,
  Q4_PART_OFFSET = 5
};

/* One array that will be loaded. */
typedef struct {
  uint64_t tensor; /* number, for q4_plan_get_tensor() */
  int32_t kind;
  const char* dtype; /* "U8" of codes and scale codes, "F32" of scales, or that of the values */
  uint32_t rank;     /* 0 of the offset */
  uint64_t shape[8];
  uint64_t bytes; /* may be 0: then it has no place, block and offset mean nothing */
  uint64_t block;
  uint64_t offset; /* in the block, a multiple of 256 */
} q4_part;

/* Opens the model and plans; reads nothing of the payload. The plan keeps the model's files open until q4_plan_free().
 * On an error *plan is NULL. A pinned plan is for the one model that has the root, and its fills check SHA-256, as
 * q4_load_pinned(). */
Q4_API int q4_plan_load(const char* path, const q4_plan_options* options, q4_plan** plan);
Q4_API int q4_plan_load_pinned(const char* path, const char* root, const q4_plan_options* options, q4_plan** plan);
/* NULL is allowed. Nothing that was filled needs the plan. */
Q4_API void q4_plan_free(q4_plan* plan);

/* Tensors in bytewise order of their names, their parts in the same order, and the blocks in which parts lie if they
 * are loaded so. Of q4_tensor, addresses are NULL; shape, elems and blocks are those of a slice. The functions fail
 * when `number` is not below the count. */
Q4_API uint64_t q4_plan_tensor_count(const q4_plan* plan);
Q4_API int q4_plan_get_tensor(const q4_plan* plan, uint64_t number, q4_tensor* tensor);
Q4_API uint64_t q4_plan_part_count(const q4_plan* plan);
Q4_API int q4_plan_get_part(const q4_plan* plan, uint64_t number, q4_part* part);
Q4_API uint64_t q4_plan_block_count(const q4_plan* plan);
Q4_API int q4_plan_get_block(const q4_plan* plan, uint64_t number, uint64_t* bytes);
/* As q4_get_file(). */
Q4_API int q4_plan_get_file(const q4_plan* plan, const char* name, const char** content, uint64_t* bytes);

/* All zero but the device: into host memory, checked, by up to 16 threads. */
typedef struct {
  int32_t device; /* whose memory the places are */
  int32_t check;
  uint32_t threads;     /* 0: all cores, but not more than 16 */
  int32_t await_stream; /* not 0: nothing is written before the work of `stream` is done */
  void* stream;         /* a cudaStream_t of the device, NULL being the default one */
} q4_fill_options;
#define Q4_FILL_OPTIONS_INIT \
  { Q4_DEVICE_HOST, Q4_CHECK_XXH3, 0, 0, NULL }

/* Loads into one place for each block, or one for each part, in the order of their numbers; returns when every part is
 * ready. Addresses are multiples of 16, places at least as large as the plan says, and none overlap; those of parts of
 * 0 bytes may be NULL. In blocks, bytes between parts are overwritten too. After an error what the places hold is
 * unspecified, and nothing writes to them any more. `options` may be NULL. A plan may be filled several times, also at
 * once. */
Q4_API int q4_fill_blocks(const q4_plan* plan, const q4_fill_options* options, void* const* blocks);
Q4_API int q4_fill_parts(const q4_plan* plan, const q4_fill_options* options, void* const* parts);

/* What the last call on this thread that failed had to say: one line, never NULL; valid until the next call on this
 * thread. */
Q4_API const char* q4_last_error(void);

#ifdef __cplusplus
}
#endif

#endif /* Q4_LOADER_C_H_ */
