// Order of things: the directory of the archive, whether it is one of PyTorch, its entries; version and byte order; the
// pickle; which of its dictionaries is the model; the tensors of that one. What is damaged or foreign is said before
// anything of the pickle is judged.
#include "formats/torch/torch_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "formats/base/crc32.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/torch/pickle_program.h"
#include "formats/torch/torch_issues.h"
#include "formats/torch/torch_views.h"
#include "formats/torch/zip_archive.h"

namespace q4 {
namespace {

constexpr std::string_view kPickleRecord = "data.pkl";
// What PyTorch reads of the versions that there are.
constexpr int kOldestVersion = 1, kNewestVersion = 10;
// Of a record that says one word.
constexpr std::uint64_t kWordBytes = 64;
// How deep the dictionaries of a model may lie in others.
constexpr int kWrapperDepth = 8;
// How deep what is left out is searched for tensors.
constexpr int kSearchDepth = 64;

// Under which keys programs put the model's state dict beside other things. Where a dictionary has several, the first
// of this list is the model: of averaged and plain weights of Real-ESRGAN its loader takes the averaged ones, of those
// of training scripts the plain ones.
constexpr std::array<std::string_view, 10> kWrappers = {
    "state_dict", "model_state_dict", "model", "module", "params_ema", "params", "network", "net", "weights", "ema"};

// The first bytes of a bare pickle or a tar: what torch.save wrote before it wrote zip.
absl::Status RefuseLegacy(const RandomAccessFile& file) {
  std::array<std::uint8_t, 1> first{};
  if (file.size() == 0) return absl::OkStatus();
  Q4_RETURN_IF_ERROR(file.ReadAt(0, first));
  if (first[0] != 0x80) return absl::OkStatus();  // PROTO, of every pickle since protocol 2
  return Fail(kTorchLegacy, file.path(), {},
              "a bare pickle; with PyTorch 1.6 or newer: torch.save(torch.load(FILE, weights_only=True), NEW_FILE)");
}

// "NAME/" of the record NAME/data.pkl. A TorchScript archive has one too; of it the code is what the message is about.
absl::StatusOr<std::string> RootOf(const std::vector<ZipEntry>& entries, std::string_view file) {
  const ZipEntry* pickle = nullptr;
  bool has_code = false, has_constants = false;
  for (const ZipEntry& entry : entries) {
    const std::size_t slash = entry.name.find('/');
    if (slash == std::string::npos) continue;
    const std::string_view name = std::string_view(entry.name).substr(slash + 1);
    has_constants |= name == "constants.pkl";
    has_code |= name.starts_with("code/");
    if (name != kPickleRecord && !name.ends_with("/data.pkl")) continue;
    if (pickle != nullptr) return Fail(kTorchNoPickle, file, entry.name, "there is '" + pickle->name + "' as well");
    pickle = &entry;
  }
  if (has_constants || (has_code && pickle != nullptr)) {
    return Fail(kTorchScript, file, {},
                "save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE)");
  }
  if (pickle == nullptr) return Fail(kTorchNoPickle, file, {}, "got none: this is no PyTorch checkpoint");
  return pickle->name.substr(0, pickle->name.size() - kPickleRecord.size());
}

const ZipEntry* FindRecord(const std::vector<ZipEntry>& entries, const std::string& name) {
  const auto found =
      std::find_if(entries.begin(), entries.end(), [&](const ZipEntry& entry) { return entry.name == name; });
  return found == entries.end() ? nullptr : &*found;
}

// The content of a small record, of which the CRC-32 is compared.
absl::StatusOr<std::vector<std::uint8_t>> ReadRecord(const RandomAccessFile& file, const ZipEntry& entry) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(entry.bytes));
  Q4_RETURN_IF_ERROR(file.ReadAt(entry.offset, bytes));
  if (entry.crc32 != 0 && Crc32(0, bytes) != entry.crc32) return Fail(kZipCrc, file.path(), entry.name);
  return bytes;
}

// The word that a record holds, without the line end; "" where there is no such record.
absl::StatusOr<std::string> ReadWord(const RandomAccessFile& file, const std::vector<ZipEntry>& entries,
                                     const std::string& name) {
  const ZipEntry* record = FindRecord(entries, name);
  if (record == nullptr) return std::string();
  if (record->bytes > kWordBytes) {
    return Fail(kTorchVersion, file.path(), name, std::to_string(record->bytes) + " bytes");
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, ReadRecord(file, *record));
  std::string word(bytes.begin(), bytes.end());
  while (word.ends_with('\n')) word.pop_back();
  return word;
}

absl::Status CheckVersion(const RandomAccessFile& file, const std::vector<ZipEntry>& entries, const std::string& root) {
  Q4_ASSIGN_OR_RETURN(const std::string version, ReadWord(file, entries, root + "version"));
  int number = 0;
  const auto [end, error] = std::from_chars(version.data(), version.data() + version.size(), number);
  if (error != std::errc() || end != version.data() + version.size() || number < kOldestVersion ||
      number > kNewestVersion) {
    return Fail(kTorchVersion, file.path(), root + "version",
                GotExpected("'" + version + "'", fmt::format("{} to {}", kOldestVersion, kNewestVersion)));
  }
  // Archives of before PyTorch 2.1 do not say it, and were little-endian but on machines that nobody published from.
  Q4_ASSIGN_OR_RETURN(const std::string order, ReadWord(file, entries, root + "byteorder"));
  if (!order.empty() && order != "little") {
    return Fail(kTorchVersion, file.path(), root + "byteorder", GotExpected("'" + order + "'", "little"));
  }
  return absl::OkStatus();
}

// Whether PyTorch puts a record of that name, without the root, into every archive.
bool IsOwnRecord(std::string_view name) {
  return name == kPickleRecord || name == "version" || name == "byteorder" || name == ".format_version" ||
         name == ".storage_alignment" || name.starts_with(".data/") || name.starts_with("data/");
}

// Finds the state dict and collects what is none of it.
class StateDictFinder {
 public:
  StateDictFinder(const PickleProgram& program, const TorchViews& views, std::string_view file)
      : program_(program), views_(views), file_(file), holds_(program.size()), counted_(program.size()) {}

  // The dictionary whose tensors are the model's. `left_out` gets what lies beside it on the way.
  absl::StatusOr<PickleId> Find(std::vector<TorchLeftOut>* left_out) {
    PickleId at = program_.root();
    for (int depth = 0; depth < kWrapperDepth; ++depth) {
      Q4_RETURN_IF_ERROR(CheckDictionary(at));
      Q4_ASSIGN_OR_RETURN(const PickleId next, Next(at));
      if (next == at) return at;
      const auto items = program_.items(at);
      bool taken = false;  // where one value has two keys, the other key is left out
      std::string key;
      for (std::size_t i = 0; i < items.size(); i += 2) {
        if (items[i + 1] == next && !std::exchange(taken, true)) {
          key = Key(items[i]);
        } else {
          LeaveOut(items[i], items[i + 1], left_out);
        }
      }
      path_ += key + "/";
      at = next;
    }
    return Fail(kTorchNoStateDict, file_, path_, "dictionaries in each other without an end");
  }

  // Counts something that is left out.
  void LeaveOut(PickleId key, PickleId value, std::vector<TorchLeftOut>* left_out) {
    TorchLeftOut& entry = left_out->emplace_back();
    entry.name = path_ + Key(key);
    Count(value, 0, &entry);
  }

  std::string Key(PickleId key) const {
    const PickleValue& value = program_.value(key);
    if (value.kind == PickleKind::kText) return std::string(program_.text(key));
    return value.kind == PickleKind::kInteger ? std::to_string(value.number) : "(a key that is no text)";
  }

 private:
  // Before anything of it is looked up.
  absl::Status CheckDictionary(PickleId at) const {
    constexpr std::string_view kWayOut = "; save the model's state_dict()";
    if (IsPickledTensor(program_, at)) {
      // An error of its kind says more.
      Q4_RETURN_IF_ERROR(views_.Tensor(at, "data.pkl").status());
      return Fail(kTorchNoStateDict, file_, path_, "got one tensor without a name" + std::string(kWayOut));
    }
    if (program_.value(at).kind != PickleKind::kDictionary) {
      return Fail(kTorchNoStateDict, file_, path_, "what was saved is no dictionary" + std::string(kWayOut));
    }
    if (IsOptimizer(at))
      return Fail(kTorchNoStateDict, file_, path_, "the state of an optimizer, which has no weights");
    return absl::OkStatus();
  }

  // What torch.optim saves: {"state": ..., "param_groups": ...}.
  bool IsOptimizer(PickleId id) const { return Member(id, "param_groups") && Member(id, "state"); }

  // The last value of that key, as Python has it.
  std::optional<PickleId> Member(PickleId dictionary, std::string_view key) const {
    std::optional<PickleId> found;
    const auto items = program_.items(dictionary);
    for (std::size_t i = 0; i < items.size(); i += 2) {
      if (program_.value(items[i]).kind == PickleKind::kText && program_.text(items[i]) == key) found = items[i + 1];
    }
    return found;
  }

  // Whether it may be a model or hold one: a dictionary with tensors in it, directly or in further dictionaries, that
  // is no optimizer's. Each value is looked at once, whatever refers to it.
  bool HoldsModel(PickleId id, int depth) {
    if (program_.value(id).kind != PickleKind::kDictionary || depth == kSearchDepth) return false;
    if (holds_[id] != Answer::kUnknown) return holds_[id] == Answer::kYes;
    holds_[id] = Answer::kNo;  // also for a circle that leads back here
    if (IsOptimizer(id)) return false;
    const auto items = program_.items(id);
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const bool is_text = program_.value(items[i]).kind == PickleKind::kText;
      const bool holds = IsPickledTensor(program_, items[i + 1]) || HoldsModel(items[i + 1], depth + 1);
      if (is_text && holds) holds_[id] = Answer::kYes;
    }
    return holds_[id] == Answer::kYes;
  }

  // The dictionary to go on with; `at` itself if it is the state dict.
  absl::StatusOr<PickleId> Next(PickleId at) {
    // A state dict has no dictionaries of tensors, so that a tensor by the name "model" is no matter.
    for (const std::string_view wrapper : kWrappers) {
      const std::optional<PickleId> inner = Member(at, wrapper);
      if (inner && HoldsModel(*inner, 0)) return *inner;
    }
    const auto items = program_.items(at);
    std::vector<std::string> keys;
    PickleId candidate = at;
    bool has_tensors = false, has_weights = false;
    for (std::size_t i = 0; i < items.size(); i += 2) {
      if (HoldsModel(items[i + 1], 0)) {
        if (keys.empty() || items[i + 1] != candidate) keys.push_back(Key(items[i]));
        candidate = items[i + 1];
      } else if (IsPickledTensor(program_, items[i + 1])) {
        has_tensors = true;
        const absl::StatusOr<SourceTensor> tensor = views_.Tensor(items[i + 1], "");
        // A single number beside models is a result of the training.
        has_weights |= !tensor.ok() || tensor->elems != 1;
      }
    }
    if (keys.empty()) {
      if (has_tensors || items.empty()) return at;
      return Fail(kTorchNoStateDict, file_, path_, "no tensor in it: " + List(items));
    }
    if (keys.size() == 1 && !has_weights) return candidate;
    std::string names;
    for (std::size_t i = 0; i < std::min<std::size_t>(keys.size(), 3); ++i) names += (i == 0 ? "" : ", ") + keys[i];
    if (keys.size() > 3) names += fmt::format(" and {} more", keys.size() - 3);
    return Fail(kTorchNoStateDict, file_, path_,
                fmt::format("{} could be the model{}; save the one that is wanted alone, as a state dict", names,
                            has_weights ? ", and so could the tensors beside" : ""));
  }

  // The first keys, for a message.
  std::string List(std::span<const PickleId> items) const {
    std::string names;
    for (std::size_t i = 0; i < std::min<std::size_t>(items.size(), 6); i += 2) {
      names += (i == 0 ? "" : ", ") + Key(items[i]);
    }
    return items.size() > 6 ? names + ", ..." : names;
  }

  // Tensors in `id`, each once in all.
  void Count(PickleId id, int depth, TorchLeftOut* entry) {
    if (depth == kSearchDepth || counted_[id]) return;
    counted_[id] = true;
    if (IsPickledTensor(program_, id)) {
      ++entry->tensors;
      entry->bytes += views_.BytesOf(id);
      return;
    }
    const PickleKind kind = program_.value(id).kind;
    if (kind != PickleKind::kDictionary && kind != PickleKind::kList && kind != PickleKind::kTuple) return;
    for (const PickleId item : program_.items(id)) Count(item, depth + 1, entry);
  }

  enum class Answer : std::uint8_t { kUnknown, kNo, kYes };

  const PickleProgram& program_;
  const TorchViews& views_;
  std::string_view file_;
  std::string path_;           // of keys from the root to the state dict, each with a '/'
  std::vector<Answer> holds_;  // by value: HoldsModel()
  std::vector<bool> counted_;  // by value
};

absl::Status AddTensors(const PickleProgram& program, const TorchViews& views, PickleId dictionary,
                        StateDictFinder* finder, std::string_view file, TorchCheckpoint* out) {
  std::unordered_set<std::string_view> names;
  const auto items = program.items(dictionary);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    if (program.value(items[i]).kind != PickleKind::kText) {
      return Fail(kTorchKey, file, AtOffset(program.value(items[i]).offset), "got " + finder->Key(items[i]));
    }
    const std::string_view name = program.text(items[i]);
    if (!names.insert(name).second) return Fail(kTorchKey, file, name, "it comes twice");
    if (!IsPickledTensor(program, items[i + 1])) {
      finder->LeaveOut(items[i], items[i + 1], &out->left_out);
      continue;
    }
    if (name.empty() || name.size() > limits::kTensorNameBytes || name.find('\0') != std::string_view::npos) {
      return Fail(kTorchKey, file, name, "got " + std::to_string(name.size()) + " bytes");
    }
    if (out->tensors.size() == limits::kTensorsPerCheckpoint) {
      return Fail(kTorchTooManyTensors, file, {}, "at most " + std::to_string(limits::kTensorsPerCheckpoint));
    }
    Q4_ASSIGN_OR_RETURN(SourceTensor tensor, views.Tensor(items[i + 1], std::string(name)));
    out->tensors.push_back(std::move(tensor));
  }
  // Names make the order unique where tensors begin at the same byte.
  std::sort(out->tensors.begin(), out->tensors.end(), [](const SourceTensor& a, const SourceTensor& b) {
    if (a.place().offset != b.place().offset) return a.place().offset < b.place().offset;
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.name < b.name;
  });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TorchCheckpoint> ReadTorchCheckpoint(const RandomAccessFile& file) {
  Q4_RETURN_IF_ERROR(RefuseLegacy(file));
  Q4_ASSIGN_OR_RETURN(ZipDirectory directory, ReadZipDirectory(file));
  Q4_ASSIGN_OR_RETURN(const std::string root, RootOf(directory.entries, file.path()));
  Q4_RETURN_IF_ERROR(CheckZipEntries(file, &directory));
  const std::vector<ZipEntry>& entries = directory.entries;
  // All names have one root, which is the first part of each.
  if (root.find('/') + 1 != root.size()) {
    return Fail(kTorchNoPickle, file.path(), root + std::string(kPickleRecord), "it lies too deep");
  }
  Q4_RETURN_IF_ERROR(CheckVersion(file, entries, root));
  const ZipEntry& record = *FindRecord(entries, root + std::string(kPickleRecord));
  // Before it is allocated.
  if (record.bytes > limits::kPickleBytes) {
    return Fail(kPickleTooLarge, file.path(), record.name,
                GotExpected(std::to_string(record.bytes), "at most " + std::to_string(limits::kPickleBytes)));
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, ReadRecord(file, record));
  Q4_ASSIGN_OR_RETURN(const PickleProgram program, ReadPickle(bytes, file.path()));
  const TorchViews views(program, entries, root, file.path());
  StateDictFinder finder(program, views, file.path());
  TorchCheckpoint out;
  Q4_ASSIGN_OR_RETURN(const PickleId dictionary, finder.Find(&out.left_out));
  Q4_RETURN_IF_ERROR(AddTensors(program, views, dictionary, &finder, file.path(), &out));
  for (const ZipEntry& entry : entries) {
    const std::string_view name = std::string_view(entry.name).substr(root.size());
    if (!IsOwnRecord(name)) out.left_out.push_back({"record " + std::string(name), 0, entry.bytes});
    if (entry.crc32 != 0) out.checksums.push_back({entry.offset, entry.bytes, entry.crc32, entry.name});
  }
  std::sort(out.checksums.begin(), out.checksums.end(),
            [](const SourceChecksum& a, const SourceChecksum& b) { return a.offset < b.offset; });
  return out;
}

}  // namespace q4
