// The names that a pickle of torch.save may hold, and what each stands for. The list is closed: every other name is an
// error, and none of these is imported or called. What is needed beside tensors is inert: it stays a name with
// arguments, so that a training checkpoint's leftovers (random states, arguments of a script) can be passed over.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/tensor/tensor.h"

namespace q4 {

enum class PickleRole : std::uint8_t {
  kOrderedDict,     // a dictionary, when it is applied to nothing
  kTensor,          // _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])
  kTypedTensor,     // _rebuild_tensor_v3: as above, with the dtype before the metadata
  kParameter,       // _rebuild_parameter(tensor, requires_grad, hooks)
  kParameterState,  // _rebuild_parameter_with_state: and a dictionary of attributes
  kFromType,        // _rebuild_from_type_v2(function, type, arguments, state)
  kTensorType,      // a type for the above that adds nothing to a tensor
  kStorage,         // a storage of elements of `dtype`
  kUntypedStorage,  // a storage of bytes
  kDType,           // `dtype` itself
  kUnread,          // a storage or dtype that q4 has no elements for; `words` says what
  kUnreadTensor,    // a function that makes a tensor of a kind that q4 does not read; `words` says which
  kInert,
};

struct PickleName {
  std::string_view module, name;
  PickleRole role;
  DType dtype = DType::kF32;    // of kStorage and kDType
  std::string_view words = {};  // "quantized"
};

// All of them; static. FindPickleName() gives the index of one, or -1.
std::span<const PickleName> PickleNames();
int FindPickleName(std::string_view module, std::string_view name);

}  // namespace q4
