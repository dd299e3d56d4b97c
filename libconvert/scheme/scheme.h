// The schemes as what they compute: a row each, which joins the layout in a container with the kernels. Nothing else
// knows both.
//
// formats/q4/scheme_layout.h has the same schemes as what they are in a file: numbers, names, zero codes. A new scheme
// is a row there, a code book in the kernels, and a row in scheme.cc. Everything here is constant; pointers and
// references stay valid for ever.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/q4/scheme_layout.h"
#include "kernels/kernels.h"

namespace q4 {

struct Scheme {
  // Its number in a container.
  Q4Scheme id;
  CodeBook book;                              // what the kernels call it
  std::uint8_t (*mirror)(std::uint8_t code);  // the code of -x for the code of x, as near as the code book has it

  std::string_view name() const { return Q4SchemeName(id); }  // "nf4"
  // Values by code: an element is its code's value times the decoded scale of its block (numerics Q6.1).
  std::span<const float, 16> code_values() const { return CodeValues(book); }
  // The codes of the smallest and the largest value, of which absmax gives one to the largest element of each block.
  // Computed by looking through the code book, 16 comparisons.
  std::uint8_t lowest_code() const;
  std::uint8_t highest_code() const;
  // Whether each value has its negative among them, so that no encoder gains anything by a negative scale (numerics
  // Q9).
  bool is_symmetric() const;
};

// In the order of their numbers in a container. All that can be quantized to; kRaw is none. At present NF4 and FP4.
std::span<const Scheme> Schemes();

// REQUIRES: format.quantized(), and that it was read by a reader of ours, which accepts known schemes only.
const Scheme& SchemeOf(const QuantFormat& format);
// The same for a bare number. REQUIRES: scheme != kRaw.
const Scheme& SchemeOf(Q4Scheme scheme);
// nullptr when none is called so ("nf4").
const Scheme* FindScheme(std::string_view name);

// What the kernels call it. REQUIRES: as SchemeOf.
CodeBook CodeBookOf(const QuantFormat& format);
CodeBook CodeBookOf(Q4Scheme scheme);

// All names, in that order.
std::vector<std::string> SchemeNames();

}  // namespace q4
