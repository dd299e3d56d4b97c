// No exception leaves these functions: callers are in C. A load runs on a thread of its own, because choosing a CUDA
// device changes the state of the thread that does. Options and tensors are translated field by field; everything else
// is load.h's. What a caller gets as const char* belongs to the model, but for q4_last_error(), which is the thread's.
#include "libconvert/load/q4_loader_c.h"

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "libconvert/load/load.h"
#include "libconvert/load/load_issues.h"

struct q4_model {
  // Kept open for q4_get_file() and for messages; the tensors do not need it.
  std::unique_ptr<q4::Q4Model> files;
  q4::LoadedModel loaded;
  mutable std::mutex mutex;
  mutable std::map<std::string, std::string> contents;  // of embedded files that were asked for; guarded by `mutex`
};

namespace {

// Of the thread that called, as errno is: loads on other threads do not overwrite it.
thread_local std::string last_error;

// Leaves the last error as it is on success.
int Code(const absl::Status& status) {
  if (!status.ok()) last_error = q4::MessageOf(status);
  return static_cast<int>(q4::ExitCodeOf(status));
}

// The code of what `call` returns or throws.
template <typename Call>
int Guarded(const Call& call) noexcept {
  try {
    return Code(call());
  } catch (const std::exception& error) {
    try {
      // What escapes as an exception is short memory, or a thread that could not be started.
      last_error = error.what();
    } catch (...) {
      // Not even the text of the error could be stored.
      last_error.clear();
    }
  }
  return static_cast<int>(q4::ExitCode::kInternal);
}

// Only the argument's name: its value may be anything, a pointer included.
absl::Status BadArgument(std::string_view what) { return q4::Fail(q4::kLoadOption, {}, what); }

absl::StatusOr<q4::LoadOptions> OptionsOf(const q4_load_options& in) {
  q4::LoadOptions out;
  static constexpr q4::LoadForm kForms[] = {q4::LoadForm::kQuantized, q4::LoadForm::kSource, q4::LoadForm::kF32,
                                            q4::LoadForm::kF16, q4::LoadForm::kBF16};
  // In the order of the C enumerators, which begin with the default so that options set to zero mean it.
  static constexpr q4::LoadCheck kChecks[] = {q4::LoadCheck::kXxh3, q4::LoadCheck::kSha256, q4::LoadCheck::kNone};
  if (in.form < 0 || static_cast<std::size_t>(in.form) >= std::size(kForms)) return BadArgument("form");
  if (in.check < 0 || static_cast<std::size_t>(in.check) >= std::size(kChecks)) return BadArgument("check");
  if (in.device < Q4_DEVICE_HOST) return BadArgument("device");
  out.form = kForms[in.form];
  out.check = kChecks[in.check];
  out.threads = in.threads;
  if (in.tensors == nullptr) return out;
  for (const char* name : std::span(in.tensors, in.tensor_count)) {
    if (name == nullptr) return BadArgument("tensors");
    out.tensors.emplace_back(name);
  }
  return out;
}

absl::Status Load(const char* path, const std::optional<q4::Sha256>& root, const q4_load_options& options,
                  q4_model* model) {
  // LoadOptions takes an empty list for "all". A caller in C who passes a list of none has most likely made a mistake.
  if (options.tensors != nullptr && options.tensor_count == 0) return BadArgument("tensor_count");
  Q4_ASSIGN_OR_RETURN(q4::LoadOptions load_options, OptionsOf(options));
  load_options.root = root;
  Q4_ASSIGN_OR_RETURN(model->files, q4::Q4Model::Open(q4::PosixFileSystem(), path));
  // May go when this function ends: blocks outlive the memory object that they came from.
  std::unique_ptr<q4::LoadMemory> memory;
  if (options.device == Q4_DEVICE_HOST) {
    memory = q4::MakeHostMemory();
  } else {
    Q4_ASSIGN_OR_RETURN(memory, q4::MakeCudaMemory(options.device));
  }
  Q4_ASSIGN_OR_RETURN(model->loaded, q4::LoadModel(*model->files, *memory, load_options));
  return absl::OkStatus();
}

// Borrows every string and address from the model; nothing is allocated for the caller.
void Describe(const q4::LoadedTensor& from, q4_tensor* to) {
  const q4::Q4Tensor& entry = from.entry;
  *to = {};
  to->name = entry.name.c_str();
  to->dtype = q4::DTypeName(from.dtype).data();  // of a literal
  to->rank = static_cast<std::uint32_t>(from.shape.size());
  // Fits: a container's tensors have at most 8 dimensions, and its reader has checked that.
  std::copy(from.shape.begin(), from.shape.end(), to->shape);
  to->elems = from.elems;
  to->values = from.values;
  to->value_bytes = from.value_bytes;
  // Everything about codes stays 0 and NULL. In a dequantized form scheme and block size are still those of the
  // container.
  if (entry.scheme == q4::Q4Scheme::kRaw) return;
  to->scheme = q4::Q4SchemeName(entry.scheme).data();  // of the table: it ends in a 0
  to->block_size = entry.block_size;
  to->blocks = entry.BlocksOf(from.elems);
  to->codes = from.codes;
  to->scales = from.scales;
  to->scale_codes = from.scale_codes;
  to->scales2 = from.scales2;
  to->nested_offset_word = from.nested_offset;
  to->nested_offset = entry.nested_offset;
}

// Both ways to load. Another thread does the work, as said above.
int LoadOnThread(const char* path, const std::optional<q4::Sha256>& root, const q4_load_options* options,
                 q4_model** model) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr) return BadArgument("model");
    *model = nullptr;
    if (path == nullptr) return BadArgument("path");
    const q4_load_options defaults = Q4_LOAD_OPTIONS_INIT;
    const q4_load_options& chosen = options != nullptr ? *options : defaults;
    // Destroyed on every way out but success, with all memory that was allocated by then.
    auto result = std::make_unique<q4_model>();
    absl::Status status;
    std::exception_ptr thrown;
    // An exception must not leave a thread's function; it is carried over and handled as one of this thread.
    std::thread([&] {
      try {
        status = Load(path, root, chosen, result.get());
      } catch (...) {
        thrown = std::current_exception();
      }
    }).join();
    if (thrown) std::rethrow_exception(thrown);
    if (status.ok()) *model = result.release();
    return status;
  });
}

}  // namespace

uint32_t q4_loader_version(void) { return Q4_LOADER_VERSION; }

int q4_load(const char* path, const q4_load_options* options, q4_model** model) {
  return LoadOnThread(path, std::nullopt, options, model);
}

int q4_load_pinned(const char* path, const char* root, const q4_load_options* options, q4_model** model) {
  if (model != nullptr) *model = nullptr;
  // No text, or one that is no root, pins nothing; going on would be a check that was switched off.
  const std::optional<q4::Sha256> pinned = root == nullptr ? std::nullopt : q4::ParseQ4Root(root);
  if (!pinned) return Guarded([] { return BadArgument("root"); });
  return LoadOnThread(path, pinned, options, model);
}

void q4_free(q4_model* model) { delete model; }

uint64_t q4_tensor_count(const q4_model* model) { return model == nullptr ? 0 : model->loaded.tensors.size(); }

int q4_get_tensor(const q4_model* model, uint64_t number, q4_tensor* tensor) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || tensor == nullptr) return BadArgument("model or tensor");
    if (number >= model->loaded.tensors.size()) {
      return q4::Fail(q4::kLoadNoSuchTensor, model->files->path(), "tensor " + std::to_string(number));
    }
    Describe(model->loaded.tensors[number], tensor);
    return absl::OkStatus();
  });
}

int q4_find_tensor(const q4_model* model, const char* name, q4_tensor* tensor) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || name == nullptr || tensor == nullptr) return BadArgument("model, name or tensor");
    const q4::LoadedTensor* found = model->loaded.Find(name);
    if (found == nullptr) {
      return q4::Fail(q4::kLoadNoSuchTensor, model->files->path(), "tensor '" + std::string(name) + "'");
    }
    Describe(*found, tensor);
    return absl::OkStatus();
  });
}

int q4_get_file(const q4_model* model, const char* name, const char** content, uint64_t* bytes) {
  return Guarded([&]() -> absl::Status {
    if (model == nullptr || name == nullptr || content == nullptr || bytes == nullptr) {
      return BadArgument("model, name, content or bytes");
    }
    // The model is const to callers, who may use it on several threads. Held while the file is read, so that it is read
    // once.
    const std::lock_guard lock(model->mutex);
    auto known = model->contents.find(name);
    if (known == model->contents.end()) {
      Q4_ASSIGN_OR_RETURN(std::string read, model->files->ReadFile(name));
      // Elements of a map do not move, so what was handed out before stays valid.
      known = model->contents.emplace(name, std::move(read)).first;
    }
    *content = known->second.c_str();
    *bytes = known->second.size();
    return absl::OkStatus();
  });
}

const char* q4_last_error(void) { return last_error.c_str(); }
