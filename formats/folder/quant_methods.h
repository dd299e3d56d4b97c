// The quantization methods of the field, and what tells them: one table, a row for each method. It says how they are
// recognised, never how they decode: a method with a reader has a row in source_formats.h as well.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

struct QuantMethod {
  std::string_view name;  // for people
  // Values of quant_method, in lower case, separated by spaces. A trailing '*' stands for any rest.
  std::string_view methods;
  // Members of a quantization_config without quant_method that only this method has, separated by spaces.
  std::string_view keys;
  // What its tensors look like, separated by " | ": suffixes of names that stand on one common beginning, separated by
  // spaces. The first has an element type behind '/': i integer, b 8-bit integer, w 32-bit integer, e 8-bit float,
  // s any type of 8 bits, n float of 16 bits or more, * any; a '2' behind it asks for two dimensions or more.
  std::string_view tensors;
  // How to come by unquantized weights, besides the checkpoint that was quantized; "" where no common tool does it.
  std::string_view dequantize;
  // Whether weights of 8-bit floats that a configuration says are this method's have a reader (formats/logical), and
  // whether those that only look like it have.
  bool reads_fp8 = false, reads_fp8_tensors = false;
  // Whether weights of 4-bit floats have a reader, where a configuration says that they are this method's.
  bool reads_f4 = false;
};

// The name of the row whose weights can be taken over (formats/bnb/taken_over.h).
inline constexpr std::string_view kBnb4Bit = "bitsandbytes 4-bit";

// In the order in which tensors are held against them: what several methods have in common stands last.
std::span<const QuantMethod> QuantMethods();

// A file that quantizers write beside the weights.
struct QuantFile {
  std::string_view name;    // of the file
  std::string_view keys;    // members, separated by spaces, one of which must be there with a value; "": any content
  std::string_view method;  // the row's name, unless quant_method inside the file says another
};
std::span<const QuantFile> QuantFiles();

// Whether `name` (a file name without a directory) is such a file. It describes weights that are stored in another way:
// no container carries it.
bool IsQuantizationFile(std::string_view name);

// The row for a value of quant_method, or nullptr. Case does not matter.
const QuantMethod* FindQuantMethod(std::string_view quant_method);

// The row of `name`. REQUIRES: there is one.
const QuantMethod& QuantMethodNamed(std::string_view name);

// As Python's bool(): false for null, false, 0 and what is empty.
bool IsTruthy(const Json& value);

// Whether `object` has one of these members, separated by spaces, with a value that is true in this sense.
bool HasAnyValue(const Json& object, std::string_view keys);

// The row that a quantization_config without quant_method tells by its members, or nullptr.
const QuantMethod* QuantMethodOfKeys(const Json& config);

// The first row whose tensors are among `tensors`, and the tensor that told it; nullptr for none. Time by rows times
// tensors.
struct QuantTensors {
  const QuantMethod* method = nullptr;
  const SourceTensor* tensor = nullptr;
};
QuantTensors FindQuantTensors(const std::vector<SourceTensor>& tensors);

}  // namespace q4
