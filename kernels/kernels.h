// The kernels: pure functions over memory, one table of them per backend. No I/O, no allocation, no exceptions, no
// globals. The arithmetic is docs/numerics.md (sections are cited as Q4.3); every backend gives the same bits.
//
// Every function works on a *slab*: `n` consecutive elements of one tensor, taken in row-major order and beginning at a
// multiple of 256 blocks. A slab that is not the tensor's last one also ends at a multiple of 256 blocks; only the last
// slab can end in a partial (tail) block. So a tensor may be cut into slabs anywhere the rules allow and gives the same
// bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace q4 {

// The dtypes that can be quantized and decoded to (Q1.2).
enum class FloatType : std::uint8_t { kF32 = 0, kF16 = 1, kBF16 = 2 };
// The sets of 16 code values (Q2.1). A number is the book's row in kernels/codebook.h.
enum class CodeBook : std::uint8_t { kNf4 = 0, kFp4 = 1 };

inline constexpr std::uint64_t kScaleGroup = 256;  // blocks per nested scale and per SUM256 group (Q5.3, Q7.3)
// What `absmax` and `quantize` return when every element is finite; no element can have this index (Q1.4).
inline constexpr std::uint64_t kAllFinite = ~std::uint64_t{0};

// Blocks of n elements, a partial last one included (Q1.3). 64-bit throughout: tensors exceed 2^32 elements.
constexpr std::uint64_t BlockCount(std::uint64_t n, std::uint32_t block_size) {
  return n / block_size + (n % block_size != 0);
}
// Groups of 256 blocks, a partial last one included: absmax2 values of nested scales, and GroupSums of a slab.
constexpr std::uint64_t GroupCount(std::uint64_t blocks) { return blocks / kScaleGroup + (blocks % kScaleGroup != 0); }
// Bytes of the codes of n elements, two to a byte (Q3.1).
constexpr std::uint64_t PackedBytes(std::uint64_t n) { return n / 2 + n % 2; }
// Bytes of one element.
constexpr std::uint64_t FloatSize(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }
// Whether bs is one of the eight block sizes of Q1.3: 32, 64, 128, ... 4096.
constexpr bool IsBlockSize(std::uint64_t bs) { return bs >= 32 && bs <= 4096 && (bs & (bs - 1)) == 0; }

// The five sums of Q8 over one group of 256 blocks: each block folded as Q7.1, the block results added in index order.
struct GroupSums {
  double e = 0, abs_e = 0, e2 = 0, x2 = 0, xy = 0;
};

// The order-free part of Q8 over a slab. Indices are relative to the slab's first element or block.
struct SlabStats {
  // n. The histogram adds up to it: the padding nibble of an odd n is not counted (Q8.1).
  std::uint64_t count = 0;
  // Blocks of zeros; blocks with a scale below TINY that are not (Q8.1, Q8.7); elements outside the range of their
  // block's codes (Q8.7); elements that decode to infinity in the tensor's dtype (Q8.9).
  std::uint64_t zero_blocks = 0, tiny_blocks = 0, clipped = 0, overflow = 0;
  // Elements by code, 0 to 15.
  std::uint64_t hist[16] = {};
  // Largest |x - y|, computed in fp64 (Q8.2).
  double max_abs_err = 0;
  std::uint64_t max_abs_err_index = 0;  // smallest index with that error
  // Largest error in half steps (Q8.7), over the elements that are not clipped.
  double max_gap_ratio = 0;
  // Largest sum of squared errors of a block (Q8.10).
  double worst_block_e2 = 0;
  std::uint64_t worst_block = 0;  // smallest index with that sum
};

// How hard the encoder mse searches (Q9.4, Q9.7).
inline constexpr int kLeastEffort = 1, kDefaultEffort = 2, kMostEffort = 3;

// One backend. Elements (`void*`) and codes may have any alignment, typed pointers have that of their type; outputs
// never overlap inputs. All functions are thread-safe and want the canonical float environment (below). Functions that
// read elements do not check for NaN or infinity, except `absmax` and `quantize`; scales may be negative or zero, and
// infinite or NaN ones are decoded as IEEE says, every NaN result being the quiet NaN 7FC00000.
struct KernelTable {
  const char* name;  // "scalar", "AVX2", ...

  // Q4.1, Q4.3, Q4.4: scales[BlockCount(n)]. The tail block's scale is clamped to TINY. Returns kAllFinite, or the
  // smallest index of a NaN or infinite element (then `scales` is unspecified).
  std::uint64_t (*absmax)(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales);

  // Q4 whole: codes[PackedBytes(n)] and scales[BlockCount(n)]. Returns as absmax; outputs are then unspecified. An odd
  // n (only in a tensor's last slab) is padded as Q3.2 says.
  std::uint64_t (*quantize)(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                            std::uint8_t* codes, float* scales);

  // Q9.4 to Q9.6, the encoders mse and weighted: scales[BlockCount(n)], signed, before they are nested. `weights`[n] is
  // what a squared error counts in each element, from 2^-20 to 2^48 (Q16); nullptr for 1 everywhere, which gives the
  // same bits. `effort` is one of kLeastEffort .. kMostEffort. Unless nullptr, `floors`[BlockCount(n)] get what absmax
  // loses at least in each block, however its scale is stored (Q9.9). Returns as absmax; outputs are then unspecified.
  std::uint64_t (*search_scales)(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                                 std::uint32_t block_size, int effort, float* scales, double* floors);

  // Q9.2: codes[PackedBytes(n)], the nearest under scales of any sign, padded as Q3.2 says. Under the scales of absmax
  // they are the codes of `quantize`. Elements must be finite.
  void (*codes_under)(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                      const float* scales, std::uint8_t* codes);

  // Q9.3: errors[BlockCount(n)], the sum of squared errors of each block with the codes of `codes_under`; `weights` as
  // above.
  void (*block_errors)(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                       std::uint32_t block_size, const float* scales, double* errors);

  // Q6: out[n] of `out_type` from codes and (decoded) scales. More than 16 MiB at a multiple of 64 bytes may be written
  // past the caches.
  void (*dequantize)(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                     std::uint32_t block_size, FloatType out_type, void* out);

  // Q5.2 to Q5.4 for `blocks` scales beginning at a multiple of 256: codes[blocks], absmax2[GroupCount(blocks)].
  void (*quantize_scales)(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2);

  // Q5.5, the way back, for a piece that begins at a multiple of 256: scales[blocks]. An overflow is not reported
  // here; it shows in the statistics (Q5.12).
  void (*dequantize_scales)(const std::uint8_t* codes, const float* absmax2, std::uint64_t blocks, float offset,
                            float* scales);

  // Q8 over one slab with decoded `scales`: groups[GroupCount(BlockCount(n))] and *stats are overwritten. `type` is the
  // tensor's dtype: of x, and of the output that `overflow` is about. A NaN error, which only an infinite or NaN scale
  // makes, is never a maximum. Fast when a slab holds several groups: every call finds its maxima anew.
  void (*error_stats)(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                      std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats);

  // Elementwise conversion, RNE with subnormals; overflow gives infinity, a NaN keeps its sign and leading payload
  // bits. Between equal types it copies bits. Returns the number of elements that were finite in x and are infinite in
  // `out`.
  std::uint64_t (*convert)(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out);

  // Q15.3, of one row: values[j] += scale * (left[0] * right[j] + left[1] * right[stride + j] + ...) for n elements and
  // `rank` terms. A NaN that comes of it may be any.
  void (*add_product)(float* values, const float* left, const float* right, std::uint64_t stride, std::uint64_t rank,
                      float scale, std::uint64_t n);

  // Q17.4 to Q17.6, the loops of the encoder feedback; rows, panels and their layouts are those of kernels/feedback.h.
  // sums[c][r] += left[0][r] * right[0][c] + ..., one product after the other: sums[kFeedbackPanel][kFeedbackRows],
  // left[terms][kFeedbackRows], right[terms][kFeedbackPanel].
  void (*add_products)(float* sums, const float* left, const float* right, std::uint64_t terms);
  // sums[c][r] -= left[0][r] * right[0][c] + ..., in the same way, for the first `columns` columns: sums[columns],
  // left[terms] and right[terms] have rows of kFeedbackPanel.
  void (*subtract_products)(double* sums, const double* left, const double* right, std::uint64_t terms,
                            std::uint64_t columns);
  // The codes of a panel's first `columns` columns, one after the other, from `sums` of the errors of the others:
  // x, scales, sums, errors and codes are [column][kFeedbackRows], `matrix` [column][kFeedbackPanel]. Errors go in as
  // they are and come out as the new codes make them; sums are used up.
  void (*feedback_panel)(CodeBook book, const float* x, const float* scales, const float* matrix, std::uint64_t columns,
                         float* sums, float* errors, std::uint8_t* codes);
};

// The reference: kernels/*_scalar.cc. Read it first.
const KernelTable& ScalarKernels();

// The fastest backend of this machine's CPU. The environment variable Q4_CPU_TARGET, read once, may name another one
// that runs here ("scalar", "SSE4", "AVX2", "AVX3", "NEON"), to compare or to measure; any other value is ignored.
const KernelTable& BestCpuKernels();

// Every SIMD target compiled in and supported here, slowest first; each is bit-identical to ScalarKernels().
std::vector<const KernelTable*> SimdKernels();

// Targets compiled in that this CPU lacks, by name, so that tests can say what they skipped.
std::vector<const char*> UnsupportedSimdTargets();

// Q7.3 carried over slabs: the fp64 sum of a sequence, cut at multiples of 256. Scalar by definition.
class Sum256 {
 public:
  // `values` must continue the sequence at a multiple of 256 unless it is the last piece. A sequence that is cut
  // elsewhere has another sum: each call closes its last group.
  void Add(std::span<const float> values);
  // Adds one group's sum, for callers that already hold group sums.
  void AddGroup(double group_sum) { total_ += group_sum; }
  double total() const { return total_; }

 private:
  double total_ = 0;
};

// Q5.1: fl(SUM256(scales) / blocks). `scale_sum` is Sum256::total() over all scales of the tensor, `blocks` their
// number, at least 1.
float NestedOffset(double scale_sum, std::uint64_t blocks);

// Q9.8: the codes of signed scales under group scales that are there already, with the offset 0: codes[blocks] for
// `blocks` scales that begin at a multiple of 256. Scalar by definition.
void CodesUnderGroups(const float* scales, std::uint64_t blocks, const float* absmax2, std::uint8_t* codes);

// The fp32 words of the tables of docs/numerics.md, for exporters: 16 code values and the 256-entry map of the nested
// scales.
std::span<const float, 16> CodeValues(CodeBook book);
std::span<const float, 256> NestedMap();

// Q10.2: whether this thread rounds to nearest even and keeps subnormals. Tools refuse to run otherwise. Looks at the
// control register and at the results of a few operations. Cheap; once for each entry point will do.
bool FloatEnvironmentIsCanonical();

// Sets the canonical float environment for its scope. For threads that a host program owns or has influenced: those of
// the thread pool, and entry points of the library. REQUIRES: destroyed on the thread that created it, in the order of
// nesting.
class ScopedFloatEnvironment {
 public:
  ScopedFloatEnvironment();
  ~ScopedFloatEnvironment();
  ScopedFloatEnvironment(const ScopedFloatEnvironment&) = delete;
  ScopedFloatEnvironment& operator=(const ScopedFloatEnvironment&) = delete;

 private:
  std::uint64_t saved_ = 0;
};

}  // namespace q4
