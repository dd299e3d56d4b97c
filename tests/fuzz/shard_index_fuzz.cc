// The index of a sharded checkpoint. What the parser accepts names plain files only, and opens together with shards
// that hold exactly what it lists.
#include <algorithm>
#include <vector>

#include "formats/exchange/safetensors_writer.h"
#include "formats/source/shard_index.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"
#include "tests/support/memory_file_system.h"

namespace q4::fuzz {
namespace {

// Writes the shards that `index` describes, each tensor one byte. False if a tensor has a name that no safetensors
// file can hold.
bool WriteShards(const ShardIndex& index, MemoryFileSystem* fs) {
  std::vector<std::vector<SafetensorsTensor>> tensors(index.shards.size());
  for (const auto& [name, shard] : index.shard_of) tensors[shard].push_back({name, DType::kU8, {1}});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto layout = PlanSafetensors(tensors[i]);
    if (!layout.ok()) return false;
    test::Bytes& bytes = (*fs)["d/" + index.shards[i]];
    bytes.assign(layout->header.begin(), layout->header.end());
    bytes.resize(layout->file_bytes);
  }
  return true;
}

void CheckAccepted(const ShardIndex& index) {
  Q4_FUZZ_CHECK(std::is_sorted(index.shards.begin(), index.shards.end()));
  Q4_FUZZ_CHECK(std::adjacent_find(index.shards.begin(), index.shards.end()) == index.shards.end());
  Q4_FUZZ_CHECK(std::all_of(index.shards.begin(), index.shards.end(), IsPlainFileName));
  for (const auto& [name, shard] : index.shard_of) Q4_FUZZ_CHECK(!name.empty() && shard < index.shards.size());

  MemoryFileSystem fs;
  if (!WriteShards(index, &fs)) return;
  const auto payload = OpenShards(fs, "d/model.safetensors.index.json", index, SymbolicLinks::kRefuse);
  // Whatever else the index says.
  Q4_FUZZ_CHECK(payload.ok() && payload->tensors.size() == index.shard_of.size());
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(shard_index) {
  q4::JsonText text(q4::fuzz::TextOf(data, size));
  const auto index = q4::ParseShardIndex(text, "f.safetensors.index.json");
  if (index.ok()) {
    q4::fuzz::CheckAccepted(*index);
  } else {
    q4::fuzz::CheckError(index.status());
  }
  return 0;
}
