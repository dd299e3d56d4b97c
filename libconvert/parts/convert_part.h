// Converts one part of a checkpoint: some of its shards, one after the other. Other parts do the others, on other
// machines, at other times, with other numbers of parts; nothing is locked and nothing waits. docs/scale_out.md says
// how this is used and what holds.
//
//   OpenCheckpoint, PlanConversion with ConvertOptions::shard_by_source   the same on every machine
//   ConvertPart                                                           this part's shards, each with its record
//   MergeParts (merge.h)                                                  once, when all are there: makes the model
//
// A shard is the unit of all that can go wrong: it appears complete, by the rename of its own writer, under a name that
// any attempt would give it with the same bytes. Two attempts at a time are a waste, and nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/parts/assign.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// What became of one shard.
struct PartShard {
  enum class Outcome {
    kWritten,   // converted, and given its name
    kFinished,  // an earlier run had: neither read nor written
    kEqual,     // converted, and found to be there already: an attempt elsewhere was faster, or its record was missing
    kReplaced,  // converted, in the place of a shard that was made of other source files
  };
  std::size_t number = 0;  // from 0
  Outcome outcome = Outcome::kWritten;
  std::string path;
  std::uint64_t bytes = 0;
  Sha256 root{};
};

struct PartReport {
  PartNumber part;
  std::size_t shard_count = 0;                       // of the model
  ShardRange range;                                  // of this part
  std::vector<PartShard> shards;                     // of this part, in order
  std::uint64_t source_bytes = 0, output_bytes = 0;  // of shards that were converted; of all of the part
  std::vector<std::string> notes, warnings;
  unsigned threads = 0;
  std::vector<std::string> limits;  // as in ConvertReport
};

// What each shard has to read, for AssignShards().
std::vector<std::uint64_t> ShardWeights(const Checkpoint& checkpoint, const ConversionPlan& plan);

// Refuses, before anything is read: what CheckOutput() refuses of names and places, for the shards of this part, and a
// model of this name that is complete (kModelComplete), whatever `force` says. A shard of the same plan may be there;
// another container needs `force`.
absl::Status CheckPart(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                       const std::string& output, const PartNumber& part, bool force);

// Converts the shards of `part`, which are none where there are fewer shards than parts. `run.gates` must be empty:
// they are about the model. `run.resume` false: shards that are finished are converted again, and compared.
//
// Errors: those of RunConversion() and CheckPart(); kShardsDisagree where a shard is there, of the same source files
// and plan, with other content. Shards that were finished before an error stay.
absl::StatusOr<PartReport> ConvertPart(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                       const ConvertOptions& options, const RunOptions& run, const std::string& output,
                                       const PartNumber& part);

}  // namespace q4
