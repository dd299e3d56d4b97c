// Runs fuzz targets over their corpora, without libFuzzer: fuzz_corpora FOLDER [TARGET...] runs each target, or those
// named, over FOLDER/<target>/* and over the inputs in FOLDER/<target>.found (found_inputs.py). The former are also cut
// after each of their first bytes, as a damaged file is. With Q4_FUZZ_SECONDS in the environment each target then runs
// that long over changed inputs, the same for the same Q4_FUZZ_SEED; this is no replacement for scripts/fuzz.sh, which
// follows coverage, but costs a sanitizer build nothing. A target that finds something ends the process.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// fuzz_targets.inc, which the build writes, has a line Q4_FUZZ_ENTRY(<target>) for each target.
#define Q4_FUZZ_ENTRY(target) extern "C" int q4_fuzz_##target(const std::uint8_t* data, std::size_t size);
#include "fuzz_targets.inc"
#undef Q4_FUZZ_ENTRY

namespace {

struct Target {
  const char* name;
  int (*run)(const std::uint8_t* data, std::size_t size);
};

constexpr Target kTargets[] = {
#define Q4_FUZZ_ENTRY(target) {#target, q4_fuzz_##target},
#include "fuzz_targets.inc"
#undef Q4_FUZZ_ENTRY
};

constexpr std::size_t kMostCuts = 4096;
using Input = std::vector<std::uint8_t>;

Input BytesOf(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

// The inputs packed into the file, each behind its size.
std::vector<Input> Unpack(const std::filesystem::path& path) {
  const Input packed = BytesOf(path);
  std::vector<Input> inputs;
  for (std::size_t at = 0; at < packed.size();) {
    if (packed.size() - at < 4) throw std::runtime_error(path.string() + " ends early");
    std::size_t size = 0;
    for (unsigned i = 0; i < 4; ++i) size |= std::size_t{packed[at + i]} << (8 * i);
    at += 4;
    if (packed.size() - at < size) throw std::runtime_error(path.string() + " ends early");
    const auto begin = packed.begin() + static_cast<std::ptrdiff_t>(at);
    inputs.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(size));
    at += size;
  }
  return inputs;
}

// The number of runs.
std::size_t RunWithCuts(const Target& target, const Input& input) {
  target.run(input.data(), input.size());
  const std::size_t cuts = std::min(input.size(), kMostCuts);
  for (std::size_t size = 0; size < cuts; ++size) {
    // Memory of exactly this size, so that a sanitizer sees the first byte too many.
    const Input prefix(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(size));
    target.run(prefix.data(), prefix.size());
  }
  return cuts + 1;
}

// A change as a fuzzer makes it: to a bit, a byte, a number, a range, or by a piece of another input.
void Change(const Input& other, std::minstd_rand* random, Input* input) {
  constexpr std::uint8_t kBytes[] = {0, 1, 0x7F, 0x80, 0xFF, '0', '9', '"', '{', '}', '[', ']', ',', ':', '\\', '\n'};
  const auto below = [random](std::size_t limit) { return limit == 0 ? 0 : (*random)() % limit; };
  const auto at = [](auto& bytes, std::size_t place) { return bytes.begin() + static_cast<std::ptrdiff_t>(place); };
  const std::size_t begin = below(input->size() + 1);
  const std::size_t count = below(std::min<std::size_t>(input->size() - begin, 32) + 1);
  const std::size_t from = below(other.size() + 1);
  const std::size_t taken = below(std::min<std::size_t>(other.size() - from, 64) + 1);
  switch (below(6)) {
    case 0:
      if (begin < input->size()) (*input)[begin] = static_cast<std::uint8_t>((*input)[begin] ^ (1u << below(8)));
      break;
    case 1:
      if (begin < input->size()) (*input)[begin] = kBytes[below(std::size(kBytes))];
      break;
    case 2:
      std::fill(at(*input, begin), at(*input, begin + std::min<std::size_t>(count, 8)), kBytes[below(5)]);
      break;
    case 3:
      input->erase(at(*input, begin), at(*input, begin + count));
      break;
    case 4:
      input->insert(at(*input, begin), at(other, from), at(other, from + taken));
      break;
    default:
      std::copy_n(at(other, from), std::min(taken, count), at(*input, begin));
  }
}

// The number of runs in that time.
std::size_t RunChanged(const Target& target, const std::vector<Input>& inputs, std::chrono::seconds time,
                       unsigned seed) {
  std::minstd_rand random(seed);
  const auto end = std::chrono::steady_clock::now() + time;
  std::size_t runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    Input input = inputs[random() % inputs.size()];
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
      Change(inputs[random() % inputs.size()], &random, &input);
    }
    const Input exact = input;
    target.run(exact.data(), exact.size());
  }
  return runs;
}

// The corpus of a target, the files of its folder first; `files` is their number.
std::vector<Input> CorpusOf(const Target& target, const std::filesystem::path& folder, std::size_t* files) {
  std::set<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder / target.name)) paths.insert(entry.path());
  if (paths.empty()) throw std::runtime_error(std::string(target.name) + ": no corpus");
  std::vector<Input> inputs;
  for (const auto& path : paths) inputs.push_back(BytesOf(path));
  *files = inputs.size();
  for (Input& found : Unpack(folder / (std::string(target.name) + ".found"))) inputs.push_back(std::move(found));
  return inputs;
}

// A number in the environment; 0 where there is none.
unsigned NumberOf(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : static_cast<unsigned>(std::strtoul(text, nullptr, 10));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s FOLDER [TARGET...]\n", argv[0]);
    return 1;
  }
  const std::set<std::string> wanted(argv + 2, argv + argc);
  const std::chrono::seconds time(NumberOf("Q4_FUZZ_SECONDS"));
  const unsigned seed = NumberOf("Q4_FUZZ_SEED");
  std::size_t targets = 0, inputs = 0, runs = 0, changed = 0;
  for (const Target& target : kTargets) {
    if (!wanted.empty() && !wanted.contains(target.name)) continue;
    ++targets;
    std::size_t files = 0;
    const std::vector<Input> corpus = CorpusOf(target, argv[1], &files);
    for (std::size_t i = 0; i < corpus.size(); ++i) {
      std::printf("%s: input %zu, %zu bytes\n", target.name, i, corpus[i].size());
      std::fflush(stdout);  // so that a crash comes after the name of its input
      if (i < files) {
        runs += RunWithCuts(target, corpus[i]);
      } else {
        target.run(corpus[i].data(), corpus[i].size());
        ++runs;
      }
    }
    inputs += corpus.size();
    if (time.count() > 0) {
      std::printf("%s: changed inputs\n", target.name);
      std::fflush(stdout);
      changed += RunChanged(target, corpus, time, seed);
    }
  }
  if (!wanted.empty() && targets != wanted.size()) throw std::runtime_error("no such target");
  std::printf("fuzz: %zu targets, %zu inputs, %zu runs, %zu with changed inputs\n", targets, inputs, runs, changed);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
