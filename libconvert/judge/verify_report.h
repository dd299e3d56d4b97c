// What a verification found out: the values behind q4verify's text, JSON, JUnit, Markdown and HTML reports. Plain data;
// verify.h makes it, report_*.h render it.
//
// Names are as they stand in the files: a renderer escapes them for its format. Statistics are kept as counts, sums and
// maxima; what is derived from them (NMSE, SQNR) is computed on output (model/stats.h), as numerics Q8.5 asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/folder/left_out.h"
#include "formats/q4/container.h"
#include "formats/tensor/tensor.h"
#include "libconvert/judge/evaluation.h"
#include "libconvert/model/scale_spread.h"
#include "libconvert/model/stats.h"

namespace q4 {

// One thing that is wrong.
struct VerifyFinding {
  int issue = 0;        // the number after Q4-
  std::string tensor;   // name of the tensor concerned; "" when it is none
  std::string message;  // the whole error line but the tool's name; fit for a terminal
};

// One element of a bad block.
struct WorstElement {
  std::uint64_t index = 0;  // flat, row-major, in the tensor
  float source = 0;         // widened
  float decoded = 0;        // code value times decoded scale, fp32 (Q6.1)
};

// A block with one of the largest sums of squared errors of its tensor.
struct WorstBlock {
  std::uint64_t block = 0;             // elements [block * block_size, (block + 1) * block_size) of the tensor
  double sum_e2 = 0;                   // S64 (Q7.1)
  float scale = 0;                     // decoded
  std::vector<WorstElement> elements;  // those farthest off, farthest first, at most kWorstElements
};
// Enough to look at by hand, few enough for a report of thousands of tensors.
inline constexpr std::size_t kWorstBlocks = 3;    // of each tensor
inline constexpr std::size_t kWorstElements = 4;  // of each block

// What is known of a tensor's bytes after the comparison with the source.
enum class TensorProof : std::uint8_t {
  kNotCompared,  // nothing
  kSample,       // a part was compared, without a fault
  kEqual,        // kept, and bit for bit what the source makes it
  kRecomputed,   // quantized, and bit for bit what its encoder chooses
  kBounded,      // its encoder leaves no unique answer: codes are as they must be, the error is below a bound
  kFailed,       // compared, and wrong
};

// The error of what is stored beside that of absmax: what that encoder makes of the same source with the same type,
// block size and nesting. Measured on request (VerifyOptions::compare_absmax), of tensors that hold what they should.
struct AbsmaxComparison {
  // Tensors that were measured; none: the rest says nothing.
  std::uint64_t tensors = 0;
  // Sums of squared errors, of the elements that were compared.
  double e2 = 0, absmax_e2 = 0;

  // In units of absmax' error: 0.82, or 1 where neither has any. Infinite where absmax alone has none.
  double Ratio() const {
    if (e2 == absmax_e2) return 1;
    return e2 / absmax_e2;
  }
  // REQUIRES: tensors come in bytewise order of their names, as those of sums do (Q8.11).
  void Add(const AbsmaxComparison& other) {
    tensors += other.tensors;
    e2 += other.e2;
    absmax_e2 += other.absmax_e2;
  }
};

// What the verdict rests on beside the comparison, which VerifyTensor::proof tells of. Integrity (digests, structure)
// and self-consistency (what the container's parts say of each other) are always checked.
struct VerifyStrength {
  // Recorded options, recipe and policy against the treatment of each tensor.
  enum class Policy : std::uint8_t {
    kUnknown,   // the container says nothing, or nothing that can be read
    kSettings,  // type, block size, nesting and encoder; which tensors are kept is the policy of another version
    kWhole,     // also which tensors are kept
  };
  Policy policy = Policy::kUnknown;
};

// One tensor of the container. The base has its scheme, block size and nesting.
struct VerifyTensor : QuantFormat {
  std::string name;
  Shape shape;
  DType dtype = DType::kF32;  // of the source
  Q4Encoder encoder = Q4Encoder::kNone;
  std::uint64_t elems = 0;
  std::uint64_t stored_bytes = 0;  // of all its parts, as they lie in the file
  std::string layer, role;         // the groups it belongs to (tensor_groups.h); "" for none
  bool passed = true;              // no finding names it, and every gate on it held
  bool compared = false;           // with the source, whole
  TensorProof proof = TensorProof::kNotCompared;
  std::uint64_t compared_elems = 0;  // `elems` when compared whole, less for a sample
  bool has_stats = false;            // recorded, or recomputed when `compared`
  Q4Stats stats;
  AbsmaxComparison absmax;               // of this tensor alone
  ScaleSpread scales;                    // of quantized tensors
  std::vector<WorstBlock> worst_blocks;  // worst first; only with a source
};

// Quantized tensors that belong together, and their common statistics.
struct VerifyGroup {
  // A layer is the name up to its first number, a role what the tensor is in any layer (docs/glossary.md).
  enum class Kind : std::uint8_t { kLayer, kRole };
  Kind kind = Kind::kLayer;
  std::string name;  // "model.layers.7", "down_proj"
  ModelStats stats;
  AbsmaxComparison absmax = {};  // where it was asked for
};

// One threshold held against one subject.
struct GateVerdict {
  // What is judged. Layers and roles as in VerifyGroup.
  enum class Scope : std::uint8_t { kTensor, kLayer, kRole, kModel, kEvaluation };
  std::string gate;  // the rule's name in the gate file, or the flag ("--max-nmse"), or "baseline"
  Scope scope = Scope::kTensor;
  std::string subject;     // name of the tensor, layer or role; "" for the model and its evaluation
  std::string statistic;   // as in the JSON report: "nmse", "sqnr_db", ..., or in an evaluation: "kl_mean", ...
  bool is_maximum = true;  // the value may be at most `limit`, else at least
  double limit = 0;
  double value = 0;  // NaN when the statistic does not exist, which breaks the gate
  bool passed = true;
};

// Tensors that have another encoder than in the report that is held against this one.
struct EncoderChange {
  std::string before, after;  // names; `before` is a text of the earlier report
  std::uint64_t tensors = 0;
};

// Everything that was looked at. Complete even when findings are many: only their listing is capped.
struct VerifyReport {
  // As given on the command line; `source` is "" without --against.
  std::string path, source;
  Sha256 root{};                                 // the artifact's identity
  std::uint32_t shards = 0;                      // files verified
  std::uint32_t shard_count = 0;                 // files the model has; more than `shards` when one was given alone
  std::uint64_t file_bytes = 0;                  // of these shards
  std::uint64_t chunks = 0;                      // that were read and checked
  std::uint64_t source_bytes = 0;                // tensor bytes of the source that were compared
  std::string architecture, model_type;          // from the embedded config.json; "" when not stated
  std::string provenance;                        // the JSON document as stored
  double sample_percent = 100;                   // of the slabs that were compared with the source
  std::uint64_t sample_seed = 0;                 // of the choice of slabs; means something only for a sample
  std::string only;                              // the regular expression of the tensors that were compared; "": all
  std::string baseline;                          // the earlier report that was held against this one; "": none
  std::vector<EncoderChange> baseline_encoders;  // sorted; errors of different encoders are no sign of damage
  std::vector<VerifyTensor> tensors;             // bytewise sorted by name
  std::vector<VerifyGroup> groups;               // layers in natural order, then roles by name
  std::vector<GateVerdict> gates;                // in the order: tensors by name, layers, roles, model, evaluation
  std::optional<Evaluation> evaluation;          // of what it computes; nullopt: none was given
  std::uint64_t embedded_files = 0;              // companions inside the container
  // Beside them in the source's folder, as verification found it; `recorded`: whether the container says so too.
  // Without a source, what the container says.
  std::vector<LeftOutFile> left_out;
  bool stats_recomputed = false;  // of every quantized tensor
  // The source is not what the container was made from (a checkpoint in 4 bits, taken over), but the original of that.
  bool against_original = false;
  VerifyStrength strength;
  ModelStats model;                     // of the tensors that have statistics
  bool compared_absmax = false;         // whether it was asked for
  AbsmaxComparison absmax;              // of the tensors that were measured
  ScaleSpread scales;                   // of all quantized tensors
  std::vector<VerifyFinding> findings;  // the first kMaxFindings: other source files, then in file order, name order
  std::uint64_t finding_count = 0;      // all of them

  // Whether nothing is wrong: exit code 0.
  bool passed() const { return finding_count == 0; }
};
inline constexpr std::size_t kMaxFindings = 100;

}  // namespace q4
