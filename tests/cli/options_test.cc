// No switch may fail open: an option whose value is empty, given twice, no number or contradicted must end the tool
// (exit code 1), never be as if it were not there. The options come from the tools' own parsers, so that none is
// missed.
#include "tools/options.h"

#include <cstdio>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// A right command line of each tool, without its name.
std::vector<std::string> Right(const ConvertFlags&) { return {"in", "-o", "out.q4"}; }
std::vector<std::string> Right(const InspectFlags&) { return {"in.q4"}; }
std::vector<std::string> Right(const VerifyFlags&) { return {"in.q4"}; }
std::vector<std::string> Right(const ExportFlags&) { return {"in.q4", "-o", "out", "--to", "bnb"}; }

// What the parser says about a right command line and `more`: "" for nothing.
template <typename Flags>
std::string Said(const std::vector<std::string>& more, Flags* flags) {
  std::vector<std::string> words = Right(*flags);
  words.insert(words.begin(), "tool");
  words.insert(words.end(), more.begin(), more.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  const auto text = ParseFlags(static_cast<int>(argv.size()), argv.data(), flags);
  if (text.ok()) return {};
  CHECK(IssueNumberOf(text.status()) == kBadFlag.number);
  CHECK(ExitCodeOf(text.status()) == ExitCode::kUsage);
  return MessageOf(text.status());
}

template <typename Flags>
std::string Said(const std::vector<std::string>& more) {
  Flags flags;
  return Said(more, &flags);
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Each option with each of these; `count` for the last line.
template <typename Flags>
void NoOptionFailsOpen(std::size_t least, int* count) {
  CHECK(Said<Flags>({}).empty());
  const std::vector<OptionInfo> options = OptionsOf(Flags());
  CHECK(options.size() >= least);
  for (const OptionInfo& option : options) {
    for (const std::string& name : option.names) {
      INFO(name);
      ++*count;
      const bool is_long = name.starts_with("--");
      if (option.is_argument) {
        CHECK(Has(Said<Flags>({""}), "an empty argument"));
        continue;
      }
      // What a shell makes of a variable that is not set, in each way of writing it.
      CHECK(Has(Said<Flags>({name, ""}), "an empty argument"));
      if (is_long) CHECK(Has(Said<Flags>({name + "="}), "'" + name + "=' has an empty value"));
      if (!is_long && option.takes_value) CHECK(Has(Said<Flags>({name + "=x"}), "write '" + name + " x'"));
      if (!option.takes_value) {
        if (is_long) CHECK(Has(Said<Flags>({name + "=false"}), name + " takes no value, got 'false'"));
        continue;
      }
      CHECK_FALSE(Said<Flags>({name}).empty());
      CHECK(Has(Said<Flags>({name, "--json"}), name + " has no value"));
      CHECK(Has(Said<Flags>({name, "--gate=default"}), name + " has no value"));
      if (!option.is_repeatable) {
        for (const char* const second : {"1", "2"}) {
          CHECK(Has(Said<Flags>({name, "1", name, second}), " times; it has one value"));
          if (is_long) CHECK(Has(Said<Flags>({name + "=1", name, second}), " times; it has one value"));
        }
      }
      const bool is_count = Has(option.kind, "COUNT"), is_size = Has(option.kind, "SIZE");
      if (!is_count && !is_size && !Has(option.kind, "NUMBER")) continue;
      for (const char* const wrong :
           {"x",  " ",  "nan", "NaN", "inf",   "-inf", "Infinity", "1e999",    "0x10", "1,5", "1 2",
            " 1", "1 ", "+1",  "1e",  "1_000", "1;",   "$LIMIT",   "\xd9\xa3", "1\n",  "."}) {
        INFO(wrong);
        CHECK(Has(Said<Flags>({name, wrong}), name));
        CHECK(Has(Said<Flags>({name + "=" + wrong}), name));
      }
      if (is_count || is_size) {
        for (const char* const wrong : {"-1", "99999999999999999999999", "18446744073709551616"}) {
          CHECK_FALSE(Said<Flags>({name + "=" + wrong}).empty());
        }
      }
      if (is_count) CHECK(Has(Said<Flags>({name, "1.5"}), name));
    }
  }
}

TEST_CASE("no option of any tool fails open") {
  int count = 0;
  NoOptionFailsOpen<ConvertFlags>(30, &count);
  NoOptionFailsOpen<InspectFlags>(20, &count);
  NoOptionFailsOpen<VerifyFlags>(20, &count);
  NoOptionFailsOpen<ExportFlags>(15, &count);
  std::printf("options: %d names of options, each empty, twice, and no number\n", count);
}

TEST_CASE("numbers out of their range are refused, with the range") {
  CHECK(Has(Said<ConvertFlags>({"--threads", "0"}), "a number from 1 to 1024 is expected, got 0"));
  CHECK(Has(Said<VerifyFlags>({"--threads", "1025"}), "got 1025"));
  CHECK(Has(Said<ExportFlags>({"--max-memory", "0"}), "at least 1 bytes, got 0"));
  CHECK(Has(Said<ConvertFlags>({"--max-nmse", "-1"}), "a number of at least 0 is expected, got -1"));
  CHECK(Has(Said<VerifyFlags>({"--max-abs-error", "-0.5"}), "a number of at least 0 is expected"));
  CHECK(Has(Said<VerifyFlags>({"--against", "x", "--sample", "100.5"}), "a number from 0 to 100"));
  for (const char* const size : {"63", "16", "8192", "064", "0x40", "64.0"}) {
    CHECK(Has(Said<ConvertFlags>({"--block-size", size}), "--block-size"));
  }
}

TEST_CASE("numbers are decimal, and say what they seem to") {
  VerifyFlags verify;
  CHECK(Said({"--min-sqnr", "-3.5", "--max-nmse", "1e-3", "--max-abs-error=0", "--threads", "010"}, &verify).empty());
  CHECK(*verify.min_sqnr == -3.5);
  CHECK(*verify.max_nmse == 0.001);
  CHECK(*verify.max_abs_error == 0);
  CHECK(verify.threads == 10);  // and not 8, as in C
  ConvertFlags convert;
  CHECK(Said({"--include", "a", "--exclude", "b", "--include=a", "-vv", "-v"}, &convert).empty());
  CHECK(convert.patterns.size() == 3);
  CHECK(convert.verbose == 3);
}

TEST_CASE("options that contradict each other are refused") {
  CHECK(Has(Said<ConvertFlags>({"--double-quant", "--no-double-quant"}), "contradict each other"));
  CHECK(Said<ConvertFlags>({"--double-quant", "--double-quant"}).empty());
  CHECK(Said<ConvertFlags>({"--dry-run", "--report", "r.json"}).empty());
  CHECK(Has(Said<ConvertFlags>({"-q", "-v"}), "excludes"));
  CHECK(Has(Said<VerifyFlags>({"--verbose", "--quiet"}), "excludes"));
  for (const char* const part : {"--tensors", "--tree", "--tensor=x", "--stats", "--hist", "--files", "--content",
                                 "--sort=name", "--filter=x"}) {
    CHECK(Has(Said<InspectFlags>({"--diff", "other.q4", part}), "--diff"));
    CHECK(Has(Said<InspectFlags>({part, "--lint"}), "--lint"));
  }
  CHECK(Has(Said<InspectFlags>({"--diff", "other.q4", "--lint"}), "--diff"));
  CHECK(Has(Said<InspectFlags>({"--tensor", "x", "--filter", "y"}), "--filter"));
  CHECK(Has(Said<VerifyFlags>({"--sample", "5"}), "--against"));
  CHECK(Has(Said<VerifyFlags>({"--baseline-slack", "5%"}), "--baseline"));
}

TEST_CASE("an option of another exporter is refused") {
  ExportFlags flags;
  for (const char* const option :
       {"--experts=keep4bit", "--unloadable=error", "--compute-dtype=same", "--quant-storage=uint8"}) {
    std::vector<std::string> words = {"q4export", "in.q4", "-o", "out", "--to", "safetensors", option};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    CHECK(IssueNumberOf(ParseFlags(static_cast<int>(argv.size()), argv.data(), &flags).status()) == kBadFlag.number);
  }
}

}  // namespace
}  // namespace q4
