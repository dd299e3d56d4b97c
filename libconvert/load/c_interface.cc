#include "libconvert/load/c_interface.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/shards.h"
#include "libconvert/load/load_issues.h"

namespace q4::c {
namespace {

// Of the thread that called, as errno is: loads on other threads do not overwrite it.
thread_local std::string last_error;

}  // namespace

int Code(const absl::Status& status) {
  if (!status.ok()) last_error = MessageOf(status);
  return static_cast<int>(ExitCodeOf(status));
}

int CodeOfException(const std::exception& error) noexcept {
  try {
    last_error = error.what();
  } catch (...) {
    // Not even the text of the error could be stored.
    last_error.clear();
  }
  return static_cast<int>(ExitCode::kInternal);
}

absl::Status BadArgument(std::string_view what) { return Fail(kLoadOption, {}, what); }

absl::Status OpenedModel::GetFile(const char* name, const char** content, std::uint64_t* bytes) const {
  // The model is const to callers, who may use it on several threads. Held while the file is read, so that it is read
  // once.
  const std::lock_guard lock(mutex_);
  auto known = contents_.find(name);
  if (known == contents_.end()) {
    Q4_ASSIGN_OR_RETURN(std::string read, files->ReadFile(name));
    // Elements of a map do not move, so what was handed out before stays valid.
    known = contents_.emplace(name, std::move(read)).first;
  }
  *content = known->second.c_str();
  *bytes = known->second.size();
  return absl::OkStatus();
}

// Forms and checks are in the order of the C enumerators, which begin with the default so that options set to zero mean
// it.
absl::StatusOr<LoadForm> FormOf(std::int32_t form) {
  static constexpr LoadForm kForms[] = {LoadForm::kQuantized, LoadForm::kSource, LoadForm::kF32,
                                        LoadForm::kF16,       LoadForm::kBF16,   LoadForm::kFlatScales};
  if (form < 0 || static_cast<std::size_t>(form) >= std::size(kForms)) return BadArgument("form");
  return kForms[form];
}

absl::StatusOr<LoadCheck> CheckOf(std::int32_t check) {
  static constexpr LoadCheck kChecks[] = {LoadCheck::kXxh3, LoadCheck::kSha256, LoadCheck::kNone};
  if (check < 0 || static_cast<std::size_t>(check) >= std::size(kChecks)) return BadArgument("check");
  return kChecks[check];
}

absl::StatusOr<std::vector<std::string>> TensorsOf(const char* const* tensors, std::uint64_t count) {
  std::vector<std::string> names;
  if (tensors == nullptr) return names;
  // LoadPlanOptions takes an empty list for "all". A caller in C who passes a list of none has most likely made a
  // mistake.
  if (count == 0) return BadArgument("tensor_count");
  for (const char* name : std::span(tensors, count)) {
    if (name == nullptr) return BadArgument("tensors");
    names.emplace_back(name);
  }
  return names;
}

absl::StatusOr<std::unique_ptr<LoadMemory>> MemoryOf(std::int32_t device) {
  if (device < Q4_DEVICE_HOST) return BadArgument("device");
  if (device == Q4_DEVICE_HOST) return MakeHostMemory();
  return MakeCudaMemory(device);
}

absl::StatusOr<Sha256> RootOf(const char* root) {
  const std::optional<Sha256> pinned = root == nullptr ? std::nullopt : ParseQ4Root(root);
  if (!pinned) return BadArgument("root");
  return *pinned;
}

void CopyShape(const Shape& shape, std::uint32_t* rank, std::uint64_t (*to)[8]) {
  *rank = static_cast<std::uint32_t>(shape.size());
  std::copy(shape.begin(), shape.end(), *to);
}

// Borrows every string from the model; nothing is allocated for the caller.
void Describe(const Q4Tensor& entry, const Shape& shape, std::uint64_t elems, DType dtype, bool nested, q4_tensor* to) {
  *to = {};
  to->name = entry.name.c_str();
  to->dtype = DTypeName(dtype).data();  // of a literal
  CopyShape(shape, &to->rank, &to->shape);
  to->elems = elems;
  // Everything about codes stays 0 and NULL. In a dequantized form scheme and block size are still those of the
  // container.
  if (entry.scheme == Q4Scheme::kRaw) return;
  to->scheme = Q4SchemeName(entry.scheme).data();  // of the table: it ends in a 0
  to->block_size = entry.block_size;
  to->blocks = entry.BlocksOf(elems);
  to->nested_offset = nested ? entry.nested_offset : 0;
}

}  // namespace q4::c

const char* q4_last_error(void) { return q4::c::last_error.c_str(); }
