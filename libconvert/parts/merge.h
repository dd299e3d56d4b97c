// What is done once for all parts: saying which are missing, and making the model of them.
//
// Both look at the records alone, so that neither the source nor the shards need be there: shards may be in a bucket
// already. The list of the shards is the moment at which there is a model, and is written last.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/convert/convert.h"
#include "libconvert/judge/gate.h"

namespace q4 {

struct PartsStatus {
  std::string output;
  bool complete = false;               // the model is there; then nothing below is known
  std::size_t shard_count = 0;         // 0 where there is no record yet
  std::size_t done = 0;                // shards
  std::vector<std::uint64_t> missing;  // numbers of shards as their names have them, from 1
  // N, asked for or that of all records, and which of these parts have something to do, from 0. Without N: nullopt.
  std::optional<std::uint64_t> parts;
  std::vector<std::uint64_t> missing_parts;
  std::uint64_t leftovers = 0, leftover_bytes = 0;  // partial files, of runs that are dead or alive
  std::vector<std::string> notes;
};

// `parts`: N to count with, if one is asked for. kPartsMixed where records are of several conversions; I/O errors.
absl::StatusOr<PartsStatus> StatusOfParts(FileSystem& fs, const std::string& output,
                                          std::optional<std::uint64_t> parts);

struct MergeReport {
  // As of a conversion that has done it all. Gates that are broken: then there is no model, and records stay.
  ConvertReport report;
  // An earlier merge had done it, and its records are gone: `report` is about the model that is there, as far as its
  // shards are in the folder, else it has none.
  bool was_merged = false;
};

// Makes the model: checks that all records are there, of one plan, one version of the program and the same source
// files; that shards which are in the folder are those of the records; holds `gates` against the whole; writes the
// list, and removes records and what dead runs have left. May be run again, and by several at a time: all write the
// same.
//
// Errors: kOutputName, kOutputDirectory; exit code 6: kPartsMissing with their numbers, kPartsMixed, kShardReplaced;
// 1: kModelComplete where another list or container has the name; I/O errors.
absl::StatusOr<MergeReport> MergeParts(FileSystem& fs, const std::string& output, const std::vector<Gate>& gates);

// --status, as text and as JSON (docs/schema/parts.schema.json).
std::string PartsStatusText(const PartsStatus& status);
std::string PartsStatusJson(const PartsStatus& status);

}  // namespace q4
