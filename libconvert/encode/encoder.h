// How scales and codes are chosen: an encoder for each entry of formats/q4/encoders.h that this version can run.
//
// Encoders differ in error and cost, never in the format: a reader decodes all of them alike (numerics Q6). Engine,
// plan and q4verify call the encoder and never ask which one it is; a new one is a file here and a row in encoder.cc,
// and one in formats/q4/encoders.cc, which says what q4verify may demand of its work. The arithmetic stands in
// kernels/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/q4/encoders.h"
#include "kernels/kernels.h"
#include "kernels/nested_loss.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

class SearchingEncoder;

// One way to choose scales and codes. Has no state: one object per encoder, for all threads, as long as the process
// lives. All functions see whole blocks, but for a tensor's last; what they choose depends on the block alone, never on
// how a tensor was cut.
// Arguments that they share: `shape` has the elements, their type, the block size and the scheme, and for an encoder
// that weighs errors where they lie in the tensor and what they count; `x` points to
// shape.elems elements of shape.type in row-major order, of any alignment. All memory belongs to the caller, and
// outputs do not overlap inputs. The calling thread has the canonical float environment (Q10.2).
class Encoder {
 public:
  virtual ~Encoder() = default;

  // The number that a container stores for tensors of this encoder, and the name of it in options and reports.
  virtual Q4Encoder id() const = 0;
  std::string_view name() const { return Q4EncoderName(id()); }
  // Whether cuda_slab_engine.cc has kernels that choose the same. Where it has none, a GPU refuses the tensor
  // (kDeviceEncoder) rather than choose what another encoder would.
  virtual bool has_cuda_kernels() const { return false; }
  // This object if it is one that chooses codes under decoded scales; else nullptr.
  virtual const SearchingEncoder* searching() const { return nullptr; }

  // The scales of the elements at `x`, before they are nested: scales[BlockCount(shape.elems, shape.block_size)].
  // Returns kAllFinite, or the smallest index of a NaN or infinite element; then outputs are unspecified.
  virtual std::uint64_t ChooseScales(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                     float* scales) const = 0;

  // The same scales, bit for bit, and codes[PackedBytes(shape.elems)] with them; two codes lie in a byte (Q3.1). Codes
  // are chosen under these scales. Unless the encoder is searching(), they do not depend on how scales are stored.
  // Returns as ChooseScales().
  virtual std::uint64_t ChooseCodes(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                    float* scales, std::uint8_t* codes) const = 0;
};

// Where a slab's nested scales go: [blocks] as chosen before nesting and as codes, [groups] the others.
struct NestedSlab {
  float* scales;
  std::uint8_t* scale_codes;
  float* group_scales;
  NestedLoss* losses;
};

// An encoder that tries scales, of both signs, and makes the codes for what a reader will decode (Q9). Its nested
// scales have the offset 0: a group of 256 blocks is nested with nothing but its own elements. Where that is not better
// than absmax for a tensor as a whole, the tensor is absmax's (GivesWay()).
class SearchingEncoder : public Encoder {
 public:
  const SearchingEncoder* searching() const final { return this; }

  std::uint64_t ChooseCodes(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, float* scales,
                            std::uint8_t* codes) const final;

  // The scales of a slab with nested scales. Returns as ChooseScales().
  virtual std::uint64_t ChooseNested(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                     const NestedSlab& out) const = 0;

  // The codes under scales as they decode (Q9.2): codes[PackedBytes(shape.elems)]. Elements are finite, as
  // ChooseScales() or ChooseNested() has found.
  static void CodesUnder(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                         const float* decoded, std::uint8_t* codes);
};

// Whether a tensor with nested scales is left to absmax (Q9.9): `losses` are those of all its groups, in order.
bool GivesWay(std::span<const NestedLoss> losses);

// Whether --effort says anything to this encoder.
inline bool HasEfforts(const Encoder& encoder) { return encoder.searching() != nullptr; }

// The encoders that this version can run, in the order of their numbers in a container, which may name others.
std::span<const Encoder* const> Encoders();

// The encoder with this number, or nullptr when this version cannot run it: it is reserved, or kNone. The plan
// refuses it (kEncoderNotBuilt, exit code 5): the file would name an encoder that did not choose its codes.
const Encoder* FindEncoder(Q4Encoder id);
// The same where there must be one. REQUIRES: FindEncoder(id) != nullptr, as for every tensor of a ConversionPlan that
// is to be quantized.
const Encoder& EncoderOf(Q4Encoder id);

// The names of all encoders that can be asked for, reserved ones included, in the order of their numbers: what the
// command line and recipes accept.
std::vector<std::string> EncoderNames();

// Quantizes one slab and takes its error statistics, tile by tile (slab.h), so that the elements are read from memory
// once. Writes codes[PackedBytes(shape.elems)], scales[BlockCount(shape.elems, shape.block_size)] (before nesting) and
// `stats`, which it sizes.
// `decoded`: as many scales, as a reader will decode them; the statistics are about these. nullptr: a reader gets the
// scales that are chosen here (fp32 scales). A searching encoder has chosen its scales before if they are given, and
// makes the codes under them; it writes none then, and does not look for elements that are not finite. Returns as
// ChooseCodes(): where an element is not finite, the outputs are unspecified.
std::uint64_t EncodeSlab(const Encoder& encoder, const KernelTable& kernels, const SlabShape& shape,
                         const std::uint8_t* x, std::uint8_t* codes, float* scales, const float* decoded,
                         TiledStats* stats);

}  // namespace q4
