// The files that a container consists of, one or several with their list: their names, whether they may be written, and
// the list. What q4convert writes, whether it converts or repacks, has its names and its place by these rules.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/publish/input_files.h"
#include "formats/q4/container.h"

namespace q4 {

// One shard as it lies on the disk; the only one has the name of the output itself.
struct ConvertedShard {
  std::string path;
  Q4Index index;  // final: with statistics, settled treatments and chunks
  Q4Seal seal;
};

// Of the `shards` shards of NAME.q4, in order; of the one file, its own name.
std::vector<std::string> ShardPaths(const std::string& output, std::size_t shards);

// Every name that such an output is written under: itself or its shards and their list, and what AtomicFile needs
// beside each. Looks at no file.
std::vector<std::string> ContainerNames(const std::string& output, std::size_t shards);

// That `output` is NAME.q4 in a directory that exists, and that none of `names` is one of `inputs`: kOutputName,
// kOutputDirectory, kOutputIsInput, and what FileSystem::Stat() says.
absl::Status CheckContainerNames(FileSystem& fs, const InputFiles& inputs, const std::string& output,
                                 std::size_t shards, const std::vector<std::string>& names);

// The list of the shards, as text.
std::string ShardListText(const std::vector<ConvertedShard>& shards);

// Writes the list of the shards, which is last, because the model exists once it does. Errors: those of
// WriteFileAtomically().
absl::Status PublishShardList(FileSystem& fs, const std::string& path, const std::vector<ConvertedShard>& shards,
                              bool replace);

}  // namespace q4
