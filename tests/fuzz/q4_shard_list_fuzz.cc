// The list of the shards of a model. What the parser accepts is written and read again unchanged.
#include "formats/q4/shards.h"
#include "tests/fuzz/fuzz_target.h"

Q4_FUZZ_TARGET(q4_shard_list) {
  using namespace q4;
  const auto list = ParseQ4ShardList(fuzz::TextOf(data, size), "f.q4.index.json");
  if (!list.ok()) {
    fuzz::CheckError(list.status());
    return 0;
  }
  Q4_FUZZ_CHECK(!list->parts.empty());
  for (const Q4ShardEntry& part : list->parts) {
    Q4_FUZZ_CHECK(!part.name.empty() && part.name.find('/') == std::string::npos && part.name != "..");
  }
  for (const auto& [name, shard] : list->tensors) Q4_FUZZ_CHECK(shard < list->parts.size());
  const std::string text = EncodeQ4ShardList(*list);
  const auto again = ParseQ4ShardList(text, "f.q4.index.json");
  Q4_FUZZ_CHECK(again.ok());
  Q4_FUZZ_CHECK(again->tensors == list->tensors);
  Q4_FUZZ_CHECK(EncodeQ4ShardList(*again) == text);
  return 0;
}
