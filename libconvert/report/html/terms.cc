// One table, so that a word has one meaning on the page. The longer list is docs/glossary.md, which a reader of a
// report may not have.
#include "libconvert/report/html/terms.h"

#include "fmt/format.h"

namespace q4::html {
namespace {

struct TermRow {
  std::string_view word;
  std::string_view sense;  // markup
};
constexpr TermRow kTerms[] = {
    {"SQNR",
     "Signal to quantization noise ratio in dB: -10 log10 of the NMSE. Higher is better, and 3 dB more halve the "
     "squared error. Weights of 4 bits in blocks of 64 lie near 20 dB."},
    {"NMSE",
     "Normalized squared error: the sum of squared errors over the sum of squared source values. Lower is better; 0.01 "
     "is 20 dB."},
    {"Largest error", "The largest difference between a decoded value and its source value, and where it is."},
    {"max |e|", "The largest difference between a decoded value and its source value."},
    {"half steps",
     "The largest error in units of half the distance between two neighbouring code values, times the scale. The right "
     "code under an exact scale is at most 1 off; rounded scales and encoders that search go a little beyond."},
    {"clipped", "Elements outside the range of their block's codes."},
    {"cosine", "Of the angle between source and decoded values: 1 is the same direction."},
    {"of absmax", "The squared error in units of what the plain encoder, absmax, makes of the same tensor."},
    {"Error beside absmax", "The squared error in units of what the plain encoder, absmax, makes of the same tensors."},
    {"bits", "Bits per element as they lie in the file, scales and compression included."},
    {"Bits per weight",
     "The whole file over all parameters; in quantized tensors 4 bits are codes and the rest is scales."},
    {"treatment",
     "What was done to a tensor: its type (nf4, fp4), block size, dq for double quantization, and the encoder unless "
     "it is absmax. A dtype such as F32: kept as it was."},
    {"role", "What a tensor is in any layer, such as q_proj."},
    {"block", "Consecutive elements that share one scale; the last one of a tensor may be shorter."},
    {"Σe²", "The sum of squared errors over the elements of a block."},
    {"scale", "The number that a block's code values are multiplied with."},
    {"gate", "A limit that was set before: it holds or it is broken, and one broken gate fails the whole report."},
    {"seal", "A SHA-256 over the whole file. Two reports with the same seal are about the same bytes."},
};

std::string_view SenseOf(std::string_view word) {
  for (const TermRow& row : kTerms) {
    if (row.word == word) return row.sense;
  }
  return {};  // a literal of this folder that the table lacks: html_test.cc looks for words without sense
}

}  // namespace

std::string Term(std::string_view word) {
  return fmt::format("<details class=\"term\"><summary>{}</summary><p>{}</p></details>", word, SenseOf(word));
}

std::string Terms(std::initializer_list<std::string_view> words) {
  std::string names, list;
  std::size_t left = words.size();
  for (const std::string_view word : words) {
    --left;
    names += fmt::format("{}{}", word, left == 0 ? "" : left == 1 ? " and " : ", ");
    list += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", word, SenseOf(word));
  }
  return fmt::format("<details class=\"terms\"><summary>What {} {}</summary><dl class=\"facts\">\n{}</dl></details>\n",
                     names, words.size() == 1 ? "means" : "mean", list);
}

}  // namespace q4::html
