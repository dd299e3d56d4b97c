#include "libconvert/verify_digests.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "libconvert/verify_issues.h"

namespace q4 {
namespace {

// Calls update(bytes) over the whole file.
template <typename Update>
absl::Status ForEachPiece(const RandomAccessFile& file, CancelFlag* cancel, const Update& update) {
  std::vector<std::uint8_t> piece(std::size_t{1} << 20);
  for (std::uint64_t offset = 0; offset < file.size(); offset += piece.size()) {
    if (cancel != nullptr && cancel->load()) return Fail(kVerifyInterrupted, file.path(), {});
    piece.resize(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    Q4_RETURN_IF_ERROR(file.ReadAt(offset, piece));
    update(std::span<const std::uint8_t>(piece));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DigestOf(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel) {
  if (kind == "xxh3") {
    Xxh3Stream digest(0);
    Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, [&](auto bytes) { digest.Update(bytes); }));
    return fmt::format("{:016x}", digest.Digest());
  }
  Sha256Stream digest;
  Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, [&](auto bytes) { digest.Update(bytes); }));
  return HexOf(digest.Finish());
}

}  // namespace

absl::Status CompareSourceFiles(const Checkpoint& source, const std::vector<SourceFileRecord>& records, bool digests,
                                const std::string& container, CancelFlag* cancel, FindingList* findings) {
  for (const SourceFileRecord& record : records) {
    const auto found = std::find_if(source.files().begin(), source.files().end(),
                                    [&](const CheckpointFile& file) { return file.name == record.name; });
    const std::string place = "source file '" + record.name + "'";
    if (found == source.files().end()) {
      findings->Add("", kSourceFileDiffers, container, place, "there is no file of that name");
      continue;
    }
    const RandomAccessFile& file = *found->file;
    if (file.size() != record.size) {
      findings->Add("", kSourceFileDiffers, container, place,
                    GotExpected(fmt::format("{} bytes", file.size()), fmt::format("{} bytes", record.size)));
      continue;
    }
    if (!digests || record.digest_kind.empty()) continue;
    Q4_ASSIGN_OR_RETURN(const std::string digest, DigestOf(file, record.digest_kind, cancel));
    if (digest != record.digest) {
      findings->Add("", kSourceFileDiffers, container, place,
                    record.digest_kind + " " + GotExpected(digest, record.digest));
    }
  }
  return absl::OkStatus();
}

}  // namespace q4
