// Records of parts. The input is the record's line of JSON up to its first NUL, and behind that the ends of the shard;
// the target adds the first line and the digest. What is accepted has a source for each number in it, a weight for each
// shard of the model, and is the same record when it is written anew.
#include "formats/base/digest.h"
#include "libconvert/parts/record.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/memory_file_system.h"

namespace q4::fuzz {
namespace {

absl::StatusOr<PartRecord> Read(std::string_view text) {
  MemoryFileSystem fs;
  fs["r"].assign(text.begin(), text.end());
  return ReadRecord(fs, "r");
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(part_record) {
  using namespace q4;
  const std::string_view all = fuzz::TextOf(data, size);
  const std::string_view line = all.substr(0, all.find('\0'));
  std::string text = "q4 part record 1\n" + std::string(line) + "\n";
  text += all.substr(std::min(line.size() + 1, all.size()));
  const Sha256 digest = Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  text.append(reinterpret_cast<const char*>(digest.data()), digest.size());

  for (const std::string_view given : {all, std::string_view(text)}) {
    const auto record = fuzz::Read(given);
    if (!record.ok()) {
      fuzz::CheckError(record.status());
      continue;
    }
    Q4_FUZZ_CHECK(record->parts > 0 && record->weights.size() == record->shard->index().shard_count);
    for (const std::uint32_t source : record->sources) Q4_FUZZ_CHECK(source < record->files.size());
    const auto written = EncodeRecord(*record, *record->shard);
    Q4_FUZZ_CHECK(written.ok());
    const auto again = fuzz::Read(*written);
    Q4_FUZZ_CHECK(again.ok() && again->parts == record->parts && again->weights == record->weights &&
                  again->sources == record->sources && again->files == record->files);
    Q4_FUZZ_CHECK(*EncodeRecord(*again, *again->shard) == *written);
  }
  return 0;
}
