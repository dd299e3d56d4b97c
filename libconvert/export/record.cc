// A record is read as everything else is: it may have been written by anybody. All that it can do is to agree with a
// file or not.
#include "libconvert/export/record.h"

#include <algorithm>
#include <span>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/json_document.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

constexpr char kDocument[] = "q4export-record";
// Of a file with its length in front (8 bytes) up to the digits of the mark.
constexpr std::string_view kBeforeMark = "{\"__metadata__\":{\"format\":\"pt\",\"q4_export\":\"";
constexpr std::size_t kMarkDigits = 64;
constexpr int kRecordDepth = 4;

bool IsDigest(const Json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().size() != kMarkDigits) return false;
  const std::string& text = value.get_ref<const std::string&>();
  return text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

std::set<std::string_view> EncodersOf(const Q4Model& model) {
  std::set<std::string_view> encoders;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    if (tensor.quantized()) encoders.insert(Q4EncoderName(tensor.encoder));
  }
  return encoders;
}

std::string ExportRecordText(std::string_view to, const Sha256& root,
                             const std::optional<std::set<std::string_view>>& encoders,
                             std::vector<ExportRecordFile> files) {
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Json json = NewDocument(kDocument);
  json["to"] = to;
  json["container_root_sha256"] = HexOf(root);
  if (encoders) json["encoders"] = *encoders;
  json["files"] = Json::array();
  for (const ExportRecordFile& file : files) {
    json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
  }
  return json.dump(2) + "\n";
}

absl::StatusOr<std::vector<ExportRecordFile>> ReadExportRecord(FileSystem& fs, const std::string& directory) {
  std::vector<ExportRecordFile> files;
  const std::string path = JoinPath(directory, kExportRecordName);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_symlink || !info.is_regular || info.size > limits::kConfigJsonBytes) return files;
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kConfigJsonBytes));
  const absl::StatusOr<Json> json = ParseJson(text, path, kRecordDepth);
  if (!json.ok()) return files;
  const Json* const document = FindMember(*json, "document");
  const Json* const list = FindMember(*json, "files");
  if (document == nullptr || *document != kDocument || list == nullptr || !list->is_array()) return files;
  for (const Json& entry : *list) {
    const Json* const name = FindMember(entry, "name");
    const Json* const bytes = FindMember(entry, "bytes");
    const Json* const sha256 = FindMember(entry, "sha256");
    if (name == nullptr || bytes == nullptr || sha256 == nullptr || !name->is_string() ||
        !bytes->is_number_unsigned() || !IsDigest(*sha256)) {
      return std::vector<ExportRecordFile>();
    }
    files.push_back({*name, *bytes, *sha256});
  }
  return files;
}

absl::StatusOr<std::string> DigestCache::Of(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel) {
  const FileVersion version = file.version();
  const Key key{version.size, version.tag, kind};
  {
    const std::scoped_lock lock(mutex_);
    if (const auto found = digests_.find(key); found != digests_.end()) return found->second;
  }
  Q4_ASSIGN_OR_RETURN(std::string digest, FileDigest(file, kind, cancel, kExportInterrupted));
  Q4_RETURN_IF_ERROR(file.CheckUnchanged());
  const std::scoped_lock lock(mutex_);
  return digests_[key] = std::move(digest);
}

std::string FileMarkMember() { return ",\"q4_export\":\"" + std::string(kMarkDigits, '0') + "\""; }

std::uint64_t FileMarkOffset() { return 8 + kBeforeMark.size(); }

absl::StatusOr<std::string> FileMarkOf(const RandomAccessFile& file, CancelFlag* cancel) {
  Sha256Stream digest;
  std::vector<std::uint8_t> piece(std::size_t{1} << 20);
  for (std::uint64_t offset = 0; offset < file.size(); offset += piece.size()) {
    if (cancel != nullptr && cancel->load()) return Fail(kExportInterrupted, file.path(), {});
    piece.resize(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    Q4_RETURN_IF_ERROR(file.ReadAt(offset, piece));
    // The mark lies in the first piece.
    if (offset == 0 && piece.size() >= FileMarkOffset() + kMarkDigits) {
      std::fill_n(piece.begin() + static_cast<std::ptrdiff_t>(FileMarkOffset()), kMarkDigits, std::uint8_t{'0'});
    }
    digest.Update(piece);
  }
  return HexOf(digest.Finish());
}

absl::StatusOr<bool> IsMarked(const RandomAccessFile& file, CancelFlag* cancel) {
  if (file.size() < FileMarkOffset() + kMarkDigits) return false;
  std::string head(FileMarkOffset() + kMarkDigits, '\0');
  Q4_RETURN_IF_ERROR(file.ReadAt(0, {reinterpret_cast<std::uint8_t*>(head.data()), head.size()}));
  if (head.substr(8, kBeforeMark.size()) != kBeforeMark) return false;
  Q4_ASSIGN_OR_RETURN(const std::string mark, FileMarkOf(file, cancel));
  return head.substr(FileMarkOffset()) == mark;
}

}  // namespace q4
