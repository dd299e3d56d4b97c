// A wrong name is told before anything is opened, so that a mistyped path costs nothing.
#include "libconvert/output/container_files.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/shards.h"
#include "libconvert/output/output_issues.h"

namespace q4 {

std::vector<std::string> ShardPaths(const std::string& output, std::size_t shards) {
  if (shards == 1) return {output};
  std::vector<std::string> paths;
  const auto count = static_cast<std::uint32_t>(shards);
  for (std::uint32_t i = 0; i < count; ++i) paths.push_back(Q4ShardName(output, i, count));
  return paths;
}

std::vector<std::string> ContainerNames(const std::string& output, std::size_t shards) {
  std::vector<std::string> names = ShardPaths(output, shards);
  // With shards nothing is written under `output` itself, but users think of it as the output: it is no input either.
  if (names.size() > 1) names.push_back(Q4ShardIndexName(output));
  if (std::find(names.begin(), names.end(), output) == names.end()) names.push_back(output);
  std::vector<std::string> all;
  for (const std::string& name : names) {
    for (std::string& written : AtomicFile::Names(name)) all.push_back(std::move(written));
  }
  return all;
}

absl::Status CheckContainerNames(FileSystem& fs, const InputFiles& inputs, const std::string& output,
                                 std::size_t shards, const std::vector<std::string>& names) {
  if (!output.ends_with(".q4") || BaseNameOf(output).size() <= 3) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(output));
    if (info.is_directory || output.ends_with('/')) {
      return Fail(kOutputName, output, {}, "a folder; name the file too: " + JoinPath(output, "NAME.q4"));
    }
    return Fail(kOutputName, output, {}, GotExpected(BaseNameOf(output), "NAME.q4"));
  }
  // The list of shards names them, and is JSON.
  if (shards > 1 && !IsUtf8(BaseNameOf(output))) {
    return Fail(kOutputName, output, {}, "of several shards in UTF-8 too");
  }
  const std::string directory = DirectoryOf(output);
  Q4_ASSIGN_OR_RETURN(const PathInfo parent, fs.Stat(directory));
  if (!parent.is_directory) return Fail(kOutputDirectory, output, {}, directory + "; make it first");
  return inputs.CheckNames(fs, names, kOutputIsInput);
}

std::string ShardListText(const std::vector<ConvertedShard>& shards) {
  Q4ShardList list;
  for (const ConvertedShard& shard : shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      list.tensors.emplace_back(tensor.name, static_cast<std::uint32_t>(list.parts.size()));
    }
    list.parts.push_back({BaseNameOf(shard.path), shard.seal.file_bytes, shard.seal.root});
  }
  return EncodeQ4ShardList(list);
}

absl::Status PublishShardList(FileSystem& fs, const std::string& path, const std::vector<ConvertedShard>& shards,
                              bool replace) {
  return WriteFileAtomically(fs, path, ShardListText(shards), replace);
}

}  // namespace q4
