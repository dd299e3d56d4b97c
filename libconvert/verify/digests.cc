// One digest is computed front to back by one thread, because its kinds cannot be cut; files run side by side instead.
// That one file differs is a finding and the others are still compared: a user wants to know which shard is the wrong
// one.
#include "libconvert/verify/digests.h"

#include <algorithm>
#include <string_view>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "libconvert/base/parallel.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/source/file_digest.h"

namespace q4 {

std::span<const CheckpointFile> SourceFiles(const Checkpoint& source, bool of_adapter) {
  const std::span<const CheckpointFile> all = source.files();
  return of_adapter ? all.last(source.adapter_files()) : all.first(all.size() - source.adapter_files());
}

absl::Status CompareSourceFiles(std::span<const CheckpointFile> source, const std::vector<SourceFileRecord>& records,
                                bool digests, const std::string& container, const VerifyContext& context) {
  // Says what is wrong with a file, or "". A status is an error that ends the comparison. Cheap questions come first: a
  // file of another size is not read.
  const auto compare = [&](std::uint64_t i) -> absl::StatusOr<std::string> {
    const SourceFileRecord& record = records[i];
    const auto found = std::find_if(source.begin(), source.end(),
                                    [&](const CheckpointFile& file) { return file.name == record.name; });
    if (found == source.end()) return "there is no file of that name; " + std::string(kNameTheModel);
    const RandomAccessFile& file = *found->file;
    if (file.size() != record.size) {
      return GotExpected(fmt::format("{} bytes", file.size()), fmt::format("{} bytes", record.size));
    }
    if (!digests) return std::string();
    Q4_ASSIGN_OR_RETURN(const std::string digest,
                        FileDigest(file, record.digest_kind, context.cancel, kVerifyInterrupted));
    return digest == record.digest ? "" : record.digest_kind + " " + GotExpected(digest, record.digest);
  };
  return ParallelInOrder(records.size(), context.threads, compare,
                         [&](std::uint64_t i, const absl::StatusOr<std::string>& wrong) -> absl::Status {
                           if (!wrong.ok()) return wrong.status();
                           if (wrong->empty()) return absl::OkStatus();
                           context.findings->Add("", kSourceFileDiffers, container,
                                                 "source file '" + records[i].name + "'", *wrong);
                           return absl::OkStatus();
                         });
}

void FindUnrecordedSourceFiles(const std::set<std::string_view>& names, const std::vector<SourceFileRecord>& records,
                               const std::string& container, FindingList* findings) {
  std::set<std::string_view> recorded;
  for (const SourceFileRecord& record : records) recorded.insert(record.name);
  for (const std::string_view name : names) {
    if (recorded.contains(name)) continue;
    findings->Add("", kSourceFileDiffers, container, fmt::format("source file '{}'", name), "no shard records it");
  }
}

}  // namespace q4
